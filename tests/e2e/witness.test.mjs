// A sandbox never runs twice, seen from outside. A guest sends numbers, ten a second, to a witness that is
// no node's and that no cut between nodes parts from them (scripts/node witness). Its node is parted from the
// others for a minute, so its sandbox is claimed elsewhere; the witness knows through which node each
// number came. Three nodes with real sandboxes (SHOAL_NODES=3).
import { after, afterEach, describe, it } from "node:test";
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { apiKey, cleanUp, eventually, noNode, origin, sleep, suite, takeTurn, template } from "./lib/shoal.mjs";
import { noMachine, onNode, vmmPids } from "./lib/node.mjs";

const run = promisify(execFile);
const script = fileURLToPath(new URL("../../scripts/node", import.meta.url));
const skip = noNode || noMachine || (Number(process.env.SHOAL_NODES ?? 0) >= 3 ? false : "SHOAL_NODES is not 3");
const first = Number(new URL(origin || "http://localhost:8080").port);
const nodes = [1, 2, 3].map((index) => ({ index, name: `node-${index}`, url: `http://localhost:${first + index - 1}` }));
const PORT = 9009;
const CUT_MS = 60_000;
/** Sends a number, the id of the kernel's boot and the guest's clock, until its sandbox ends. */
const SENDER = `i=0; b=$(cat /proc/sys/kernel/random/boot_id)
while :; do i=$((i+1)); echo $i >/tmp/count; echo "$i $b $EPOCHREALTIME" 2>/dev/null >/dev/udp/203.0.113.2/${PORT}; sleep 0.1; done`;
const made = [];

async function call(node, method, path, body) {
  const response = await fetch(`${node.url}/api${path}`, {
    method,
    headers: { "X-API-Key": apiKey, "Content-Type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
    signal: AbortSignal.timeout(240_000),
  });
  const text = await response.text();
  return { status: response.status, body: text ? JSON.parse(text) : null };
}

async function ok(node, method, path, body) {
  const answer = await call(node, method, path, body);
  assert.ok(answer.status < 300, `${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
  return answer.body;
}

async function exec(node, id, command) {
  const body = await ok(node, "POST", `/sandboxes/${id}/exec/run`, { cmd: "bash", args: ["-c", command] });
  assert.equal(body.exitCode, 0, JSON.stringify(body));
  return body.stdout.trim();
}

/** What came, in the order in which it came: {at, node, count, boot, clock}. */
class Witness {
  heard = [];

  async start() {
    this.process = spawn(script, ["witness", `${PORT}`], { stdio: ["ignore", "pipe", "inherit"] });
    this.process.on("exit", (code) => { this.ended = code ?? -1; });
    createInterface({ input: this.process.stdout }).on("line", (line) => {
      if (line === "ready") this.isReady = true;
      const [at, node, count, boot, clock] = line.split(" ");
      if (clock) this.heard.push({ at: Number(at), node: Number(node), count: Number(count), boot, clock: Number(clock) });
    });
    await eventually("the witness listens", () => {
      assert.equal(this.ended, undefined, "the witness ended");
      return this.isReady;
    });
    return this;
  }

  of(node) {
    return this.heard.filter((message) => message.node === node.index);
  }

  async stop() {
    await run(script, ["witness", "stop"]).catch(() => {});
    this.process?.kill();
  }
}

const witness = new Witness();

async function agreed() {
  return eventually("the nodes agree", async () => {
    const seen = (await Promise.all(nodes.map((node) => call(node, "GET", "/cluster").catch(() => null)))).filter((s) => s?.body);
    return seen.length === 3 && new Set(seen.map((s) => s.body.scheduler.leader)).size === 1 && seen[0].body.scheduler.leader;
  }, 120_000, 500);
}

/** How many saves its node's log tells of. */
async function savesOf(node, id) {
  const { stdout } = await run(script, [`${node.index}`, "logs", "5000"], { maxBuffer: 64 << 20 });
  return stdout.split("\n").filter((l) => l.includes('"checkpoint_ready"') && l.includes(id)).length;
}

/** On @owner, claimable, its second copy made, its guest sending. */
async function sender(owner) {
  const others = nodes.filter((node) => node !== owner);
  for (const node of others) await ok(nodes[0], "POST", `/nodes/${node.name}/cordon`);
  const body = await ok(owner, "POST", "/sandboxes",
    { templateID: template, memoryMB: 512, timeout: 0, onNodeLoss: "restore", autosaveInterval: 20 });
  for (const node of others) await ok(nodes[0], "POST", `/nodes/${node.name}/uncordon`);
  const id = body.sandboxID;
  made.push(id);
  assert.equal(body.workerID, owner.name);
  await exec(owner, id, `nohup bash -c '${SENDER.replaceAll("'", "'\\''")}' >/dev/null 2>&1 &`);
  await eventually("the witness hears it", () => witness.of(owner).length > 5);
  // A save with the sender in it has a copy when one that was begun after another has: only then can it come back.
  const before = await savesOf(owner, id);
  await eventually("two more saves are made", async () => (await savesOf(owner, id)) >= before + 2, 300_000, 1000);
  await eventually("they are on two nodes", async () =>
    (await call(owner, "GET", `/sandboxes/${id}`)).body?.durability?.state === "replicated", 300_000, 500);
  return id;
}

/** Numbers of one copy only grow: nothing of it is heard twice or late. */
function assertGrows(messages, whose) {
  for (let i = 1; i < messages.length; i++) {
    assert.ok(messages[i].count > messages[i - 1].count,
      `${whose}: ${messages[i].count} came after ${messages[i - 1].count}`);
  }
}

describe("a witness outside", { ...suite, skip }, () => {
  takeTurn({ alone: true });
  afterEach(async () => {
    await run(script, ["heal"]).catch(() => {});
    for (const id of made.splice(0)) for (const node of nodes) await call(node, "DELETE", `/sandboxes/${id}`).catch(() => {});
  });
  after(async () => {
    await witness.stop();
    await cleanUp();
  });

  it("hears one copy of a sandbox after the other, never both, and one is left after the heal", async (t) => {
    await witness.start();
    await agreed();
    const owner = nodes[2];
    const id = await sender(owner);
    const old = await vmmPids(id);
    assert.equal(old.length, 1);

    await run(script, ["cut", `${owner.index}`]);
    const cutAt = Date.now();
    const cutThere = Number(await onNode("date +%s%3N")); // by the witness's clock
    // Nobody asks for it: a call that it be where it is claimed is what a client's retry is.
    const asking = eventually("it answers through another node", async () => {
      const answer = await call(nodes[0], "POST", `/sandboxes/${id}/exec/run`, { cmd: "cat", args: ["/tmp/count"] }).catch(() => null);
      return answer?.status === 200 && answer.body.exitCode === 0;
    }, 240_000, 250);
    await asking;
    t.diagnostic(`answers elsewhere ${Date.now() - cutAt} ms after the cut`);
    const placed = (await ok(nodes[0], "GET", `/sandboxes/${id}`)).workerID;
    const taker = nodes.find((node) => node.name === placed);
    assert.notEqual(taker, owner);
    await eventually("the witness hears the new copy", () => witness.of(taker).length > 20);
    assert.deepEqual((await vmmPids(id)).filter((pid) => pid === old[0]), old,
      "the old VMM is there all the while, standing still: else there would be nothing to prove");
    await sleep(Math.max(0, CUT_MS - (Date.now() - cutAt))); // the partition lasts a minute
    await run(script, ["heal"]);
    await agreed();
    for (const node of nodes) {
      await eventually(`${node.name} knows where it is`, async () => {
        const now = (await call(node, "GET", `/sandboxes/${id}`)).body;
        return now?.status === "running" && now.workerID === taker.name;
      });
    }
    await eventually("one VMM of it is left", async () => (await vmmPids(id)).length === 1);
    assert.notDeepEqual(await vmmPids(id), old);
    const healedCount = witness.heard.length;
    await eventually("the copy that is left goes on", () => witness.heard.length > healedCount + 20);

    const { heard } = witness;
    const begin = heard.findIndex((message) => message.node === taker.index);
    const before = heard.slice(0, begin);
    const since = heard.slice(begin);
    // The cut did not part the owner from the witness: it was heard until it stood still.
    const afterCut = before.filter((message) => message.at > cutThere);
    assert.ok(afterCut.length > 0, "nothing was heard of the owner after the cut: the proof would be empty");
    assert.deepEqual([...new Set(before.map((message) => message.node))], [owner.index]);
    assert.deepEqual([...new Set(since.map((message) => message.node))], [taker.index],
      "the former owner was heard after the new copy");
    assertGrows(before, owner.name);
    assertGrows(since, taker.name);
    assert.equal(new Set(heard.map((message) => message.boot)).size, 1, "the same boot of the same kernel goes on");
    // It went on from a save: numbers since then are heard again, from the new copy.
    assert.ok(since[0].count <= before.at(-1).count, "the new copy began behind the old one's end");
    assert.ok(since[0].count > 1, "the sender began anew");
    t.diagnostic(`${before.length} numbers through ${owner.name}, 1 to ${before.at(-1).count}, ${afterCut.length} of them in the ` +
      `${before.at(-1).at - cutThere} ms after the cut; then silence for ${since[0].at - before.at(-1).at} ms; then ` +
      `${since.length} through ${taker.name}, ${since[0].count} to ${since.at(-1).count}; ` +
      `${heard.length - healedCount} of them after the heal; out of place: 0`);
  });
});
