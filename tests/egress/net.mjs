// Three namespaces in one that the test made: guests - node (the test's own) - the Internet.
//
//   guest a (10.201.0.2, shl0000000a)   guest b (10.201.0.6)   guest c (10.201.0.10)
//   node    192.0.2.1                   Internet 192.0.2.2, 203.0.113.0/24
// The rules are those of node/net/rules.c, the gateway is shoal-egress.
import { spawn, spawnSync, execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { makeCertificates } from "./world.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const shoald = process.env.SHOALD ?? join(here, "../../build/asan/node/shoald");
const egress = process.env.EGRESS ?? join(dirname(shoald), "shoal-egress");
const ctl = join(dirname(shoald), "../tests/node/egress/egressctl");

export const inside = process.env.IN_NAMESPACE === "yes";
const skip = [egress, ctl].every(existsSync)
  ? (process.getuid() === 0 ? false : "needs root for network namespaces")
  : `${egress} is not built`;

/** The tests of the file at @url, in namespaces of their own. */
export function inNamespace(name, url) {
  if (inside) return;
  describe(name, { timeout: 600_000, skip }, () => {
    it("in network namespaces", () => {
      const script = 'mount -t tmpfs none /run && ip link set lo up && exec "$0" --test --test-reporter=tap "$1"';
      const env = { ...process.env, IN_NAMESPACE: "yes" };
      delete env.NODE_TEST_CONTEXT;
      const run = spawnSync("unshare", ["--net", "--mount", "sh", "-c", script, process.execPath, fileURLToPath(url)],
        { encoding: "utf8", env });
      if (run.status !== 0) console.log(run.stdout, run.stderr);
      assert.equal(run.status, 0);
    });
  });
}

export const TOKEN = "osb_sealed_0123456789abcdef0123456789abcdef";
export const OTHER_TOKEN = "osb_sealed_00000000000000000000000000000001";
export const VALUE = "sk-real-value-never-in-the-guest";
export const GUESTS = { a: "10.201.0.2", b: "10.201.0.6", c: "10.201.0.10" };

const ip = (...args) => execFileSync("ip", args, { stdio: ["ignore", "pipe", "inherit"] });

function addGuest(name, slot) {
  const tap = `shl0000000${name}`;
  ip("netns", "add", name);
  ip("link", "add", tap, "type", "veth", "peer", "name", "eth0", "netns", name);
  ip("addr", "add", `10.201.0.${4 * slot + 1}/30`, "dev", tap);
  ip("link", "set", tap, "up");
  ip("-n", name, "addr", "add", `10.201.0.${4 * slot + 2}/30`, "dev", "eth0");
  ip("-n", name, "addr", "add", "2001:db8::2/64", "dev", "eth0", "nodad");
  ip("-n", name, "link", "set", "lo", "up");
  ip("-n", name, "link", "set", "eth0", "up");
  ip("-n", name, "route", "add", "default", "via", `10.201.0.${4 * slot + 1}`);
  ip("-n", name, "-6", "route", "add", "default", "via", "2001:db8::1");
}

function makeNetwork() {
  ip("netns", "add", "net");
  ip("link", "add", "wan", "type", "veth", "peer", "name", "eth0", "netns", "net");
  ip("addr", "add", "192.0.2.1/24", "dev", "wan");
  ip("link", "set", "wan", "up");
  ip("route", "add", "default", "via", "192.0.2.2");
  // 203.0.113.8 is for what a caller starts there (bench/egress.mjs)
  for (const address of ["192.0.2.2/24", "203.0.113.5/24", "203.0.113.6/24", "203.0.113.7/24", "203.0.113.8/24", "203.0.113.53/24"]) {
    ip("-n", "net", "addr", "add", address, "dev", "eth0");
  }
  ip("-n", "net", "link", "set", "lo", "up");
  ip("-n", "net", "link", "set", "eth0", "up");
  writeFileSync("/proc/sys/net/ipv4/ip_forward", "1");
  Object.keys(GUESTS).forEach(addGuest);
}

export class Net {
  seen = [];
  children = [];

  async start() {
    this.dir = mkdtempSync(join(process.env.TMPDIR ?? tmpdir(), "shoal-egress-"));
    makeNetwork();
    makeCertificates(this.dir, {
      server: ["ca", ["api.example.com", "*.b.example.com", "other.example.org", "free.example.com", "dead.example.com",
        "fast.example.com", "api.anthropic.com"]],
      wrong: ["unknown", ["untrusted.example.com", "evil.example.net"]],
    });
    await this.startServers();
    await this.startGateway();
    execFileSync(ctl, ["make-authority", join(this.dir, "authority.pem")]);
    this.ctl("authority", join(this.dir, "authority.pem"));
    const pem = readFileSync(join(this.dir, "authority.pem"), "utf8");
    writeFileSync(join(this.dir, "guest.pem"), pem.slice(pem.indexOf("-----BEGIN CERTIFICATE")) +
      readFileSync(join(this.dir, "ca.crt"), "utf8"));
    this.setRules();
  }

  async startServers() {
    const child = spawn("ip", ["netns", "exec", "net", process.execPath, join(here, "servers.mjs"), this.dir],
      { stdio: ["ignore", "pipe", "inherit"] });
    this.children.push(child);
    this.servers = child;
    const lines = createInterface({ input: child.stdout });
    await new Promise((done) => lines.on("line", (line) => {
      const what = JSON.parse(line);
      if (what === "ready") done();
      else this.seen.push(what);
    }));
  }

  async startGateway() {
    const dir = join(this.dir, "gateway");
    mkdirSync(dir, { recursive: true });
    this.socket = join(dir, "egress.sock");
    const child = spawn(egress, ["--dir", dir, "--dns", "203.0.113.53", "--trust", join(this.dir, "ca.crt")],
      // freed memory that the sanitizer keeps would count as used
      { stdio: ["ignore", "inherit", "pipe"], env: { ...process.env, ASAN_OPTIONS: "quarantine_size_mb=1" } });
    this.children.push(child);
    this.gateway = child;
    this.log = [];
    const lines = createInterface({ input: child.stderr });
    await new Promise((done, fail) => {
      child.on("exit", (code) => fail(new Error(`the gateway ended with ${code}: ${this.log.join("\n")}`)));
      lines.on("line", (line) => {
        this.log.push(line);
        if (line.includes("egress.ready")) done();
      });
    });
    const hello = this.ctl("hello");
    this.port = hello.port;
    this.dnsPort = hello.dns_port;
    this.metadataPort = hello.metadata_port;
  }

  ctl(...args) {
    const run = spawnSync(ctl, [this.socket, ...args], { encoding: "utf8" });
    assert.equal(run.status, 0, `${args.slice(0, 2)}: ${run.stderr}`);
    return Object.fromEntries(run.stdout.trim().split("\n").map((line) => {
      const [name, value] = line.split(" ");
      return [name, Number(value)];
    }));
  }

  /** Is asked for figures once, in the daemon's place, and answers with these (none: there are none). */
  listen(...figures) {
    const child = spawn(ctl, [this.socket, "answer", ...figures], { stdio: ["ignore", "pipe", "inherit"] });
    return { ready: new Promise((done) => child.stdout.once("data", done)), ended: new Promise((done) => child.on("exit", done)) };
  }

  /** Guest a has secrets and an allowlist, b secrets alone, c neither. */
  setRules(more = {}) {
    const classes = { a: "limited", b: "watched", c: "direct", ...more };
    const args = Object.keys(GUESTS).flatMap((name, slot) => [`shl0000000${name}`, `${slot}`, classes[name]]);
    const ports = [this.port, this.dnsPort, this.metadataPort].map(String);
    const text = execFileSync(ctl, ["rules", "10.201.0.0/16", "203.0.113.53", ...ports, ...args]);
    execFileSync("nft", ["-f", "-"], { input: text });
  }

  policy(name, ...args) {
    this.ctl("guest", GUESTS[name], `sb-0000000${name}`, ...args);
  }

  /** Runs in guest @name: {status, stdout, stderr}. */
  run(name, command, args, options = {}) {
    const env = { PATH: process.env.PATH, LANG: "C", HOME: this.dir, ...options.env };
    writeFileSync("/run/resolv.conf", `nameserver 10.201.0.${4 * Object.keys(GUESTS).indexOf(name) + 1}\noptions timeout:1 attempts:1\n`);
    return spawnSync("ip", ["netns", "exec", name, "sh", "-c",
      'mount --bind /run/resolv.conf "$(realpath /etc/resolv.conf)" 2>/dev/null; exec "$0" "$@"', command, ...args],
      { encoding: "utf8", maxBuffer: 64e6, timeout: 120_000, ...options, env });
  }

  /** A process of guest @name. */
  spawn(name, command, args, options = {}) {
    return spawn("ip", ["netns", "exec", name, command, ...args], options);
  }

  curl(name, ...args) {
    return this.run(name, "curl", ["-sS", "--max-time", "60", "--cacert", join(this.dir, "guest.pem"), ...args]);
  }

  /** The JSON that the echo server answered. */
  echo(name, ...args) {
    const result = this.curl(name, ...args);
    assert.equal(result.status, 0, result.stderr);
    return JSON.parse(result.stdout);
  }

  /** Resident memory of the gateway in bytes. */
  memory() {
    return 1024 * Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${this.gateway.pid}/status`, "utf8"))[1]);
  }

  strays() {
    return this.seen.filter((what) => what.stray);
  }

  async stop() {
    for (const child of this.children) child.removeAllListeners("exit");
    for (const child of this.children.reverse()) {
      const ended = new Promise((done) => child.once("exit", (code, signal) => done({ code, signal })));
      if (child.exitCode !== null || child.signalCode !== null) continue;
      child.kill("SIGTERM");
      const { code } = await ended;
      if (child === this.gateway) assert.equal(code, 0, this.log.slice(-30).join("\n"));
    }
    for (const name of [...Object.keys(GUESTS), "net"]) ip("netns", "del", name);
  }
}
