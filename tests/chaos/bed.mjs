// Five real daemons with fake-vmm, each in a network namespace of its own on one bridge and with a
// disk of its own that can be filled. Runs inside a network and a mount namespace made by chaos.mjs.
// Node i has the address 10.209.77.(i + 1); .1 is where the load comes from.
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statfsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { Cluster, Node, eventually } from "../cluster/cluster.mjs";
import { prepare } from "../cluster/fake.mjs";

const NET = "10.209.77";
const NAME = "chaos";
const DISK = "3g";
const nodeNet = fileURLToPath(new URL("../../scripts/node-net", import.meta.url));

function net(...args) {
  execFileSync(nodeNet, args.map(String), { env: { ...process.env, NET, NAME, API_PORT: "8080" }, stdio: ["ignore", "ignore", "inherit"] });
}

const exists = (path) => (existsSync(path) ? readdirSync(path) : []);

/** Processes of which an argument begins with @prefix. */
function processesOf(prefix) {
  return readdirSync("/proc").filter((pid) => /^\d+$/.test(pid)).filter((pid) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").slice(1).some((arg) => arg.startsWith(prefix));
    } catch {
      return false; // it ended
    }
  }).map(Number);
}

class BedNode extends Node {
  constructor(cluster, index) {
    super(cluster, index);
    this.host = `${NET}.${index + 1}`;
    this.apiPort = 8080;
    this.meshPort = 7946;
    this.before = ["ip", "netns", "exec", `${NAME}-${index + 1}`];
    net("up", index + 1);
    this.data = join(this.dir, "data");
    mkdirSync(this.data);
    execFileSync("mount", ["-t", "tmpfs", "-o", `size=${DISK}`, "tmpfs", this.data]);
  }

  vmms() {
    return processesOf(join(this.dir, "run") + "/").filter((pid) => pid !== this.process?.pid);
  }

  taps() {
    const links = JSON.parse(execFileSync("ip", ["-n", `${NAME}-${this.index + 1}`, "-j", "link"], { encoding: "utf8" }));
    return links.map((link) => link.ifname).filter((name) => name.startsWith("shl"));
  }

  /** The daemon and its VMs are gone at once, as without power. */
  async lose() {
    await this.stop("SIGKILL");
    for (const pid of this.vmms()) process.kill(pid, "SIGKILL");
    for (const tap of this.taps()) {
      const { status, stderr } = spawnSync("ip", ["-n", `${NAME}-${this.index + 1}`, "link", "del", tap], { encoding: "utf8" });
      if (status !== 0 && !/Cannot find device/.test(stderr)) throw new Error(stderr); // gone with its VM
    }
  }

  /** Nothing more can be written. */
  fill() {
    for (let tries = 0; ; tries++) {
      const { bsize, blocks, bfree } = statfsSync(this.data);
      const { status, stderr } = spawnSync("mount", ["-o", `remount,size=${(blocks - bfree) * bsize + 4096}`, this.data], { encoding: "utf8" });
      if (status === 0) return;
      if (tries >= 20) throw new Error(stderr); // it needs more by now
    }
  }

  empty() {
    execFileSync("mount", ["-o", `remount,size=${DISK}`, this.data]);
  }

  /** What is there of sandboxes and copies: { "VMMs": 0, ... } */
  holdings() {
    return {
      VMMs: this.vmms().length,
      TAPs: this.taps().length,
      "run folders": exists(join(this.dir, "run")).filter((name) => name.startsWith("sb-")).length,
      layers: exists(join(this.data, "layers")).length,
      bases: exists(join(this.data, "bases")).length + exists(join(this.data, "warm")).length,
    };
  }

  fds() {
    return readdirSync(`/proc/${this.process.pid}/fd`).length;
  }
}

export class Bed {
  constructor() {
    mkdirSync("/run/netns", { recursive: true });
    execFileSync("mount", ["-t", "tmpfs", "tmpfs", "/run/netns"]);
    execFileSync("mount", ["-t", "sysfs", "sysfs", "/sys"]); // that of this network namespace
    execFileSync("ip", ["link", "set", "lo", "up"]);
    net("up", 1);
    this.cluster = new Cluster();
    this.cluster.Node = BedNode;
    this.cluster.prepare = prepare;
    this.parted = new Set();
    this.lastLoss = 0; // when a machine lost its power
  }

  async start(count) {
    await this.cluster.start(count);
    return this;
  }

  get nodes() {
    return this.cluster.nodes;
  }

  get key() {
    return this.cluster.key;
  }

  part(node, on) {
    if (on) this.parted.add(node.index + 1);
    else this.parted.delete(node.index + 1);
    if (this.parted.size > 0) net("cut", ...this.parted);
    else net("heal");
  }

  /** One that ended by itself: how. */
  ended() {
    return this.nodes.filter((node) => node.exit !== undefined);
  }

  sanitizers() {
    return this.nodes.filter((node) => /ERROR: AddressSanitizer|runtime error:|LeakSanitizer/.test(node.text()));
  }

  async end() {
    for (const node of this.nodes) for (const pid of node.vmms()) process.kill(pid, "SIGKILL");
    await Promise.all(this.cluster.running().map((node) => node.stop()));
  }

  get dir() {
    return dirname(this.nodes[0].dir);
  }

  remove() {
    for (const node of this.nodes) execFileSync("umount", ["--lazy", node.data]);
    rmSync(this.dir, { recursive: true, force: true });
  }
}

export { eventually };
