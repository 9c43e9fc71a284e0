// Three nodes with real sandboxes: any node answers, a node may die, the network may part.
// SHOAL_NODES=3 says that scripts/up --nodes 3 brought up the node of SHOAL_URL.
import { after, afterEach, describe, it } from "node:test";
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { apiKey, cleanUp, eventually, noNode, origin, suite, takeTurn, template } from "./lib/shoal.mjs";

const run = promisify(execFile);
const script = fileURLToPath(new URL("../../scripts/node", import.meta.url));
const count = Number(process.env.SHOAL_NODES ?? 0);
const skip = noNode || (count >= 3 ? false : "SHOAL_NODES is not 3");
const port = Number(new URL(origin || "http://localhost:8080").port);
const nodes = [1, 2, 3].map((index) => ({ index, name: `node-${index}`, url: `http://localhost:${port + index - 1}` }));
const made = [];

async function call(node, method, path, body, headers = {}) {
  const response = await fetch(`${node.url}/api${path}`, {
    method,
    headers: { "X-API-Key": apiKey, "Content-Type": "application/json", ...headers },
    body: body === undefined ? undefined : JSON.stringify(body),
    signal: AbortSignal.timeout(240_000),
  });
  const text = await response.text();
  let json = null;
  try {
    json = JSON.parse(text);
  } catch {
    json = text;
  }
  return { status: response.status, node: response.headers.get("x-shoal-node"), body: json };
}

async function create(node, headers) {
  const answer = await call(node, "POST", "/sandboxes", { templateID: template, memoryMB: 512 }, headers);
  assert.equal(answer.status, 201, JSON.stringify(answer.body));
  if (!made.includes(answer.body.sandboxID)) made.push(answer.body.sandboxID);
  return { id: answer.body.sandboxID, owner: nodes.find((n) => n.name === answer.node) };
}

const exec = (node, id, cmd) => call(node, "POST", `/sandboxes/${id}/exec/run`, { cmd: "sh", args: ["-c", cmd] });
const status = async (node) => (await call(node, "GET", "/cluster").catch(() => null))?.body ?? null;

async function agreed() {
  return eventually("the nodes agree", async () => {
    const seen = await Promise.all(nodes.map(status));
    return seen.every((s) => s?.scheduler?.leader && s.nodes.filter((n) => n.state === "alive").length === 3) &&
      new Set(seen.map((s) => s.scheduler.leader)).size === 1 ? seen : null;
  }, 120_000, 500);
}

describe("mesh", { ...suite, skip }, () => {
  takeTurn({ alone: true });
  afterEach(async () => {
    await run(script, ["heal"]).catch(() => {});
    for (const id of made.splice(0)) await call(nodes[0], "DELETE", `/sandboxes/${id}`).catch(() => {});
  });
  after(cleanUp);

  it("what is created through one node is usable through each at once, and says who served", async () => {
    await agreed();
    for (const entry of nodes) {
      const { id, owner } = await create(entry);
      assert.ok(owner, "X-Shoal-Node names a node");
      for (const other of nodes) {
        const answer = await exec(other, id, "echo here");
        assert.equal(answer.status, 200, JSON.stringify(answer.body));
        assert.equal(answer.body.stdout, "here\n");
        assert.equal(answer.node, owner.name);
        assert.ok((await call(other, "GET", "/sandboxes")).body.some((box) => box.sandboxID === id));
      }
    }
  });

  it("20 MB go up through one node and down through another", async () => {
    const { id, owner } = await create(nodes[0]);
    const [first, second] = nodes.filter((node) => node !== owner);
    const bytes = Buffer.alloc(20 << 20, "shoal");
    const path = `/sandboxes/${id}/files?path=/tmp/blob`;
    const up = await fetch(`${first.url}/api${path}`, { method: "PUT", headers: { "X-API-Key": apiKey }, body: bytes });
    assert.ok(up.ok, await up.text());
    const down = await fetch(`${second.url}/api${path}`, { headers: { "X-API-Key": apiKey } });
    assert.equal(Buffer.compare(Buffer.from(await down.arrayBuffer()), bytes), 0);
  });

  it("one idempotency key makes one sandbox, through whichever node it is repeated", async () => {
    const headers = { "Idempotency-Key": `mesh-${process.pid}-${Date.now()}` };
    const ids = [];
    for (const node of nodes) ids.push((await create(node, headers)).id);
    assert.equal(new Set(ids).size, 1);
  });

  it("a drained node gets no new sandbox, and an undrained one does again", async () => {
    assert.equal((await call(nodes[0], "POST", "/nodes/node-2/drain")).status, 200);
    for (let i = 0; i < 3; i++) {
      const { id, owner } = await create(nodes[1]);
      assert.notEqual(owner.name, "node-2");
      await call(nodes[1], "DELETE", `/sandboxes/${id}`); // there is not much room
    }
    assert.equal((await call(nodes[2], "POST", "/nodes/node-2/uncordon")).status, 200);
  });

  it("the scheduler's daemon is killed: creates go on, its own sandboxes run on and answer when it is back", async () => {
    const [seen] = await agreed();
    const old = nodes.find((node) => node.name === seen.scheduler.leader);
    const others = nodes.filter((node) => node !== old);
    await run(script, [String(old.index), "kill"]);
    await eventually("another scheduler", async () => {
      const now = await status(others[0]);
      return now?.scheduler?.leader && now.scheduler.leader !== old.name;
    });
    const { id, owner } = await create(others[0]);
    assert.notEqual(owner.name, old.name);
    assert.equal((await exec(others[1], id, "echo on")).body.stdout, "on\n");
    await run(script, [String(old.index), "start"], { timeout: 240_000 });
    await agreed();
  });

  it("parted 2 and 1: both sides serve what they have; the heal needs no help", async () => {
    await agreed();
    const boxes = [];
    for (const node of nodes) boxes.push(await create(node));
    await run(script, ["cut", "3"]);
    await eventually("node 3 is missed", async () =>
      (await status(nodes[0]))?.nodes.find((node) => node.name === "node-3")?.state === "dead");
    for (const { id, owner } of boxes) {
      const answer = await exec(owner, id, "echo alone");
      assert.equal(answer.body.stdout, "alone\n", JSON.stringify(answer.body));
    }
    assert.equal((await create(nodes[2])).owner.name, "node-3");
    assert.notEqual((await create(nodes[0])).owner.name, "node-3");
    await run(script, ["heal"]);
    await agreed();
    for (const { id } of boxes) {
      for (const node of nodes) assert.equal((await exec(node, id, "echo all")).body.stdout, "all\n");
    }
  });
});
