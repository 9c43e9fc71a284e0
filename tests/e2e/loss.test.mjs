// A node is lost for good: what it had goes on on the others, under the same id, with its
// processes. Three nodes with real sandboxes (SHOAL_NODES=3: scripts/up --nodes 3 brought up the
// node of SHOAL_URL). The last test leaves a node behind that was wiped.
//
//   SHOAL_LOSS_BOXES   sandboxes of the big loss, half of them hibernated (4)
import { after, afterEach, describe, it } from "node:test";
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { apiKey, cleanUp, eventually, noNode, origin, suite, takeTurn, template } from "./lib/shoal.mjs";

const run = promisify(execFile);
const script = fileURLToPath(new URL("../../scripts/node", import.meta.url));
const skip = noNode || (Number(process.env.SHOAL_NODES ?? 0) >= 3 ? false : "SHOAL_NODES is not 3");
const port = Number(new URL(origin || "http://localhost:8080").port);
const nodes = [1, 2, 3].map((index) => ({ index, name: `node-${index}`, url: `http://localhost:${port + index - 1}` }));
const boxCount = Number(process.env.SHOAL_LOSS_BOXES ?? 4);
const made = [];

async function call(node, method, path, body) {
  const response = await fetch(`${node.url}/api${path}`, {
    method,
    headers: { "X-API-Key": apiKey, "Content-Type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
    signal: AbortSignal.timeout(240_000),
  });
  const text = await response.text();
  return { status: response.status, node: response.headers.get("x-shoal-node"), body: text ? JSON.parse(text) : null };
}

async function create(node, more = {}) {
  const { status, body } = await call(node, "POST", "/sandboxes", { templateID: template, memoryMB: 512, timeout: 0, ...more });
  assert.equal(status, 201, JSON.stringify(body));
  made.push(body.sandboxID);
  return { id: body.sandboxID, owner: body.workerID };
}

async function exec(node, id, command) {
  const { status, body } = await call(node, "POST", `/sandboxes/${id}/exec/run`, { cmd: "sh", args: ["-c", command] });
  assert.equal(status, 200, JSON.stringify(body));
  assert.equal(body.exitCode, 0, JSON.stringify(body));
  return body.stdout.trim();
}

const get = async (node, id) => (await call(node, "GET", `/sandboxes/${id}`)).body;

/** A process that counts, and a file: what it is, for `isIntact`. */
async function furnish(node, id) {
  const mark = `${id}-${Math.random()}`;
  await exec(node, id, `echo ${mark} >/tmp/mark; sync; nohup sh -c 'i=0; while :; do i=$((i+1)); echo $i >/tmp/count; sleep 0.2; done' >/dev/null 2>&1 & echo $! >/tmp/pid`);
  await eventually("it counts", async () => Number(await exec(node, id, "cat /tmp/count || echo 0")) > 0);
  return mark;
}

/** The same process goes on counting, the file is there. Its count. */
async function isIntact(node, id, mark) {
  assert.equal(await exec(node, id, "cat /tmp/mark"), mark);
  const [before, pid] = (await exec(node, id, "cat /tmp/count; cat /tmp/pid; kill -0 $(cat /tmp/pid)")).split("\n");
  await eventually("it goes on counting", async () => Number(await exec(node, id, "cat /tmp/count")) > Number(before), 60_000, 300);
  assert.ok(Number(pid) > 1);
  return Number(before);
}

const replicated = (node, id) => eventually(`${id} is on two nodes`, async () =>
  (await get(node, id)).durability?.state === "replicated", 300_000, 500);

async function agreed(count = 3) {
  return eventually("the nodes agree", async () => {
    const seen = (await Promise.all(nodes.map((node) => call(node, "GET", "/cluster").catch(() => null)))).filter((s) => s?.body);
    return seen.length === count && new Set(seen.map((s) => s.body.scheduler.leader)).size === 1 && seen[0].body.scheduler.leader;
  }, 120_000, 500);
}

/** Answered by whichever node, tried until it is there. */
const answers = (node, id) => eventually(`${id} answers`, async () => {
  const answer = await call(node, "POST", `/sandboxes/${id}/exec/run`, { cmd: "echo", args: ["back"] }).catch(() => null);
  return answer?.status === 200 && answer.body.stdout === "back\n";
}, 180_000, 250);

describe("loss of a node", { ...suite, skip }, () => {
  takeTurn({ alone: true });
  afterEach(async () => {
    await run(script, ["heal"]).catch(() => {});
    for (const id of made.splice(0)) for (const node of nodes) await call(node, "DELETE", `/sandboxes/${id}`).catch(() => {});
  });
  after(cleanUp);

  it("a checkpoint and a hibernated sandbox are used on a node that never had them", async (t) => {
    await agreed();
    const { id, owner } = await create(nodes[0]);
    const at = nodes.find((node) => node.name === owner);
    const mark = await furnish(at, id);
    const made1 = await call(at, "POST", `/sandboxes/${id}/checkpoints`, { name: "one" });
    assert.equal(made1.status, 201, JSON.stringify(made1.body));
    await eventually("the checkpoint is on two nodes", async () =>
      (await call(at, "GET", `/sandboxes/${id}/checkpoints`)).body[0].durability?.state === "replicated", 300_000, 500);
    const target = nodes.find((node) => node !== at);
    const began = Date.now();
    const moved = await call(at, "POST", `/sandboxes/${id}/migrate`, { targetWorker: target.name });
    assert.equal(moved.status, 200, JSON.stringify(moved.body));
    t.diagnostic(`migrated in ${Date.now() - began} ms`);
    await isIntact(at, id, mark);
    assert.equal((await get(at, id)).workerID, target.name);
  });

  it("parted from the others its owner stops it before it runs elsewhere; one copy is left after the heal", async (t) => {
    await agreed();
    let box;
    do {
      if (box) await call(nodes[0], "DELETE", `/sandboxes/${box.id}`);
      box = await create(nodes[2], { onNodeLoss: "restore", autosaveInterval: 30 });
    } while (box.owner !== "node-3");
    const { id } = box;
    const mark = await furnish(nodes[2], id);
    await replicated(nodes[2], id);
    await eventually("the log knows it", async () => {
      const text = await (await fetch(`${nodes[0].url}/metrics`, { headers: { "X-API-Key": apiKey } })).text();
      return /shoal_state_rows\{table="owners"\} [1-9]/.test(text);
    });
    await run(script, ["cut", "3"]);
    const parted = Date.now();
    await answers(nodes[0], id);
    t.diagnostic(`runs elsewhere ${Date.now() - parted} ms after the cut`);
    assert.notEqual((await get(nodes[0], id)).workerID, "node-3");
    // the old owner has it, standing still: nothing of it answers there
    const old = await fetch(`${nodes[2].url}/api/sandboxes/${id}/exec/run`, {
      method: "POST",
      headers: { "X-API-Key": apiKey, "Content-Type": "application/json" },
      body: JSON.stringify({ cmd: "cat", args: ["/tmp/count"] }),
      signal: AbortSignal.timeout(10_000),
    }).then((r) => r.status, () => "silence");
    assert.notEqual(old, 200);
    await isIntact(nodes[0], id, mark);
    await run(script, ["heal"]);
    await agreed();
    for (const node of nodes) {
      await eventually(`${node.name} knows where it is`, async () => {
        const now = await get(node, id);
        return now?.status === "running" && now.workerID !== "node-3";
      });
    }
    await isIntact(nodes[2], id, mark);
  });

  it(`${boxCount} sandboxes, half hibernated, of a node that is lost and wiped answer again`, async (t) => {
    await agreed();
    const boxes = [];
    for (const name of ["node-1", "node-2"]) assert.equal((await call(nodes[0], "POST", `/nodes/${name}/cordon`)).status, 200);
    while (boxes.length < boxCount) {
      const box = await create(nodes[2], { onNodeLoss: "restore", autosaveInterval: 30 });
      boxes.push(box);
      box.mark = await furnish(nodes[2], box.id);
      box.was = boxes.length % 2 ? "hibernated" : "running";
      if (box.was === "hibernated") { // at once, so that half of them never needs memory
        const { status, body } = await call(nodes[2], "POST", `/sandboxes/${box.id}/hibernate`);
        assert.equal(status, 200, JSON.stringify(body));
      }
    }
    for (const name of ["node-1", "node-2"]) assert.equal((await call(nodes[0], "POST", `/nodes/${name}/uncordon`)).status, 200);
    for (const box of boxes) await replicated(nodes[0], box.id);
    const lost = boxes.filter((box) => box.owner === "node-3");
    assert.equal(lost.length, boxes.length);
    const began = Date.now(); // the loss itself is a little later
    await run(script, ["3", "wipe"]);
    const since = () => Date.now() - began;
    await Promise.all(lost.map(async (box) => {
      await answers(nodes[0], box.id);
      box.answers = since();
      await eventually("node-3 counts as dead", async () => // until then its copies count as well
        (await call(nodes[0], "GET", "/cluster")).body.nodes.find((node) => node.name === "node-3").state === "dead", 120_000, 500);
      await replicated(nodes[0], box.id); // there are two nodes left
      box.repaired = since();
    }));
    for (const box of boxes) box.count = await isIntact(nodes[1], box.id, box.mark);
    t.diagnostic("sandbox       was          answers after   on two nodes again after   counted to");
    for (const box of boxes) {
      t.diagnostic(`${box.id.padEnd(14)}${box.was.padEnd(13)}${`${box.answers} ms`.padEnd(16)}${`${box.repaired} ms`.padEnd(27)}${box.count}`);
    }
  });
});
