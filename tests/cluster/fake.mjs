// Daemons that have sandboxes, with fake-vmm in place of shoal-vmm: in a network namespace of
// their own, for TAPs and rules; needs root. A test file runs a second time inside it.
//
//   FAKE_VMM   the program (beside the tests of SHOALD's build)
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import assert from "node:assert/strict";
import { noProgram } from "./cluster.mjs";

const shoald = process.env.SHOALD ?? fileURLToPath(new URL("../../build/asan/node/shoald", import.meta.url));
const vmm = process.env.FAKE_VMM ?? join(dirname(shoald), "../tests/node/sandbox/fake-vmm");
export const inside = process.env.IN_NAMESPACE === "yes";
const skip = noProgram || (existsSync(vmm) ? false : `${vmm} is not built`) ||
  (process.getuid() === 0 ? false : "needs root for network namespaces");

export const GRACE_S = 4;

/** For withCluster: what a node finds when it starts. */
export function prepare(node) {
  const data = join(node.dir, "data");
  mkdirSync(join(data, "kernel"), { recursive: true });
  mkdirSync(join(data, "templates", "minimal"), { recursive: true });
  writeFileSync(join(data, "kernel", "vmlinux"), "");
  writeFileSync(join(data, "kernel", "initrd"), "");
  writeFileSync(join(data, "templates", "minimal", "disk.raw"), "plain\n");
  node.options = ["--sandboxes-max", "20", "--vmm", vmm, "--warm", "off", "--pool", `10.201.${node.index}.0/24`,
    "--replica-grace-s", `${GRACE_S}`];
}

/** The tests of the file at @url, in a namespace. */
export function inNamespace(name, url) {
  if (inside) return;
  describe(name, { timeout: 900_000, skip }, () => {
    it("in a network namespace", () => {
      const script = 'ip link set lo up && exec "$0" --test --test-reporter=tap "$1"';
      const env = { ...process.env, IN_NAMESPACE: "yes" };
      delete env.NODE_TEST_CONTEXT;
      const run = spawnSync("unshare", ["--net", "sh", "-c", script, process.execPath, fileURLToPath(url)],
        { encoding: "utf8", env });
      if (run.status !== 0) console.log(run.stdout, run.stderr);
      assert.equal(run.status, 0);
    });
  });
}

export async function create(node, more = {}) {
  const { status, body } = await node.call("POST", "/api/sandboxes", { templateID: "minimal", memoryMB: 512, ...more });
  assert.equal(status, 201, JSON.stringify(body));
  return body.sandboxID;
}

export async function ownerOf(cluster, sandbox) {
  const { body } = await cluster.nodes[0].call("GET", `/api/sandboxes/${sandbox}`);
  return cluster.nodes.find((node) => node.name === body.workerID);
}

/** The machine is lost: the daemon, its VMMs, the interfaces of these sandboxes. */
export async function lose(node, ...sandboxes) {
  await node.stop("SIGKILL");
  spawnSync("pkill", ["-9", "-f", "--", `--dir ${join(node.dir, "run")}/`]);
  for (const id of sandboxes) spawnSync("ip", ["link", "del", `shl${id.slice(3)}`]);
}

/** Daemons leave their sandboxes running; the test does not. */
export async function removeAll(cluster) {
  const { body } = await cluster.running()[0].call("GET", "/api/sandboxes");
  for (const sandbox of body) await cluster.running()[0].call("DELETE", `/api/sandboxes/${sandbox.sandboxID}`);
}
