// A sandbox never runs twice, heard from outside: three real daemons with fake-vmm, each in a network namespace of
// its own on one bridge (scripts/node-net). What runs sends numbers to a witness that no cut parts from it. Its
// node is parted from the others for a minute, and the sandbox is claimed elsewhere. tests/e2e/witness.test.mjs does
// it with real guests.
import { after, describe, it } from "node:test";
import assert from "node:assert/strict";
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { eventually, noProgram, sleep, suite, withCluster } from "./cluster.mjs";
import { create, inside, prepare, removeAll } from "./fake.mjs";

const script = fileURLToPath(new URL("../../scripts/node-net", import.meta.url));
const PORT = 9009;
const CUT_MS = 60_000;
const NET = "10.209.80";
const net = { ...process.env, NET, NAME: "shlw", API_PORT: "18080" };
const nodeNet = (...args) => execFileSync(script, args, { env: net, stdio: ["ignore", "ignore", "inherit"] });

/** The same file once more, where network namespaces can be made and seen. */
if (!inside) describe("a witness outside", { timeout: 900_000, skip: noProgram || (process.getuid() === 0 ? false : "needs root") }, () => {
  it("in namespaces", () => {
    const line = 'mount -t tmpfs none /run && mount -t sysfs none /sys && ip link set lo up && exec "$0" --test --test-reporter=tap "$1"';
    const env = { ...process.env, IN_NAMESPACE: "yes" };
    delete env.NODE_TEST_CONTEXT;
    const run = spawnSync("unshare", ["--net", "--mount", "sh", "-c", line, process.execPath, fileURLToPath(import.meta.url)], { encoding: "utf8", env });
    for (const told of run.stdout.split("\n").filter((l) => l.includes("numbers through"))) console.log(told);
    if (run.status !== 0) console.log(run.stdout, run.stderr);
    assert.equal(run.status, 0);
  });
});

/** What came, in the order in which it came. */
class Witness {
  heard = [];

  async start() {
    this.process = spawn(script, ["witness", `${PORT}`], { env: net, stdio: ["ignore", "pipe", "inherit"] });
    createInterface({ input: this.process.stdout }).on("line", (line) => {
      if (line === "ready") this.isReady = true;
      const [at, node, count] = line.split(" ");
      if (count) this.heard.push({ at: Number(at), node: Number(node), count: Number(count) });
    });
    await eventually("the witness listens", () => this.isReady);
  }

  of(node) {
    return this.heard.filter((message) => message.node === node.index);
  }
}

function vmms(cluster, id) {
  const run = spawnSync("pgrep", ["-f", "--", `--dir ${cluster.dir}/[0-9]+/run/.*${id}`], { encoding: "utf8" });
  return run.stdout.split("\n").filter(Boolean);
}

const get = async (node, id) => (await node.call("GET", `/api/sandboxes/${id}`).catch(() => null))?.body;
const saves = (node, id) => node.events("checkpoint_ready").filter((event) => event.sandbox === id).length;

function assertGrows(messages) {
  for (let i = 1; i < messages.length; i++) assert.ok(messages[i].count > messages[i - 1].count, `${messages[i].count} after ${messages[i - 1].count}`);
}

if (inside) describe("a witness outside", suite, () => {
  const witness = new Witness();
  for (const index of ["1", "2", "3"]) nodeNet("up", index);
  after(() => nodeNet("down"));

  it("hears one copy of a sandbox after the other, never both", withCluster(3, async (cluster, t) => {
    const [one, two, owner] = cluster.nodes;
    await witness.start();
    for (const node of [one, two]) await one.call("POST", `/api/nodes/${node.name}/cordon`);
    await eventually("the marks are known", async () =>
      (await owner.status())?.nodes.filter((node) => node.mark === "cordoned").length === 2);
    const id = await create(owner, { onNodeLoss: "restore", autosaveInterval: 10, timeout: 0 });
    for (const node of [one, two]) await one.call("POST", `/api/nodes/${node.name}/uncordon`);
    const started = await owner.call("POST", `/api/sandboxes/${id}/exec/run`, { cmd: "sh", args: ["-c", `beat ${PORT}`] });
    assert.equal(started.status, 200, JSON.stringify(started.body));
    await eventually("the witness hears it", () => witness.of(owner).length > 5);
    const before = saves(owner, id);
    await eventually("two more saves are made", () => saves(owner, id) >= before + 2);
    await eventually("they are on two nodes", async () => (await get(owner, id)).durability?.state === "replicated");
    const old = vmms(cluster, id);
    assert.equal(old.length, 1);

    nodeNet("cut", "3");
    const cutAt = Date.now();
    await eventually("it answers through another node", async () => {
      const answer = await one.call("POST", `/api/sandboxes/${id}/exec/run`, { cmd: "sh", args: ["-c", "get"] }).catch(() => null);
      return answer?.status === 200 && Number(answer.body.stdout) > 0;
    }, 120_000, 100);
    const taker = cluster.nodes.find((node) => witness.of(node).length > 0 && node !== owner) ??
      await eventually("the new copy is heard", () => [one, two].find((node) => witness.of(node).length > 0));
    assert.ok(vmms(cluster, id).includes(old[0]), "the old VMM is there all the while: else there would be nothing to prove");
    await sleep(Math.max(0, CUT_MS - (Date.now() - cutAt))); // the partition lasts a minute
    nodeNet("heal");
    await cluster.settled();
    await eventually("one VMM of it is left", () => vmms(cluster, id).length === 1);
    assert.notDeepEqual(vmms(cluster, id), old);
    for (const node of cluster.nodes) await eventually(`${node.name} knows where it is`, async () => (await get(node, id))?.workerID === taker.name);
    const healed = witness.heard.length;
    await eventually("the copy that is left goes on", () => witness.heard.length > healed + 20);

    const { heard } = witness;
    const begin = heard.findIndex((message) => message.node !== owner.index);
    const [first, then] = [heard.slice(0, begin), heard.slice(begin)];
    const afterCut = first.filter((message) => message.at > cutAt);
    assert.ok(afterCut.length > 0, "nothing was heard of the owner after the cut: the proof would be empty");
    assert.deepEqual([...new Set(then.map((message) => message.node))], [taker.index], "the former owner was heard after the new copy");
    assertGrows(first);
    assertGrows(then);
    assert.ok(then[0].count > 1 && then[0].count <= first.at(-1).count, "the new copy goes on from a save of the old one");
    t.diagnostic(`${first.length} numbers through ${owner.name}, to ${first.at(-1).count}, ${afterCut.length} of them in the ` +
      `${first.at(-1).at - cutAt} ms after the cut; silence for ${then[0].at - first.at(-1).at} ms; then ${then.length} numbers through ` +
      `${taker.name}, ${then[0].count} to ${then.at(-1).count}, ${heard.length - healed} of them after the heal; out of place: 0`);
    await removeAll(cluster);
    nodeNet("witness", "stop");
  }, (node) => {
    prepare(node);
    node.host = `${NET}.${node.index}`;
    node.apiPort = 8080;
    node.meshPort = 9000;
    if (node.index > 1) node.before = ["ip", "netns", "exec", `shlw-${node.index}`];
  }));
});
