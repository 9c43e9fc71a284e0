// Copies of checkpoints: three real daemons with fake-vmm, in a network namespace of their own.
import { describe, it } from "node:test";
import assert from "node:assert/strict";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { eventually, suite, withCluster } from "./cluster.mjs";
import { create, inNamespace, inside, ownerOf, prepare, removeAll } from "./fake.mjs";

inNamespace("copies of checkpoints", import.meta.url);

async function metric(node, name) {
  const text = await node.metrics().catch(() => "");
  const line = text.split("\n").find((l) => l.startsWith(`${name} `));
  return line ? Number(line.split(" ").at(-1)) : NaN;
}

const HELD = 'shoal_replica_held{kind="full"}';
/** Per node, how many checkpoints it has a copy of; what they are relative to is not counted. */
const held = async (nodes) => Promise.all(nodes.map((node) => metric(node, HELD)));
/** Everything has its copies, and `node` knows it. */
const settled = (node) => eventually("everything has its copies", async () =>
  (await metric(node, "shoal_replica_full")) === (await metric(node, "shoal_replica_entries")));
const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);

async function checkpoint(node, sandbox, name) {
  const { status, body } = await node.call("POST", `/api/sandboxes/${sandbox}/checkpoints`, { name });
  assert.equal(status, 201, JSON.stringify(body));
  await eventually("the checkpoint is ready", async () => {
    const list = await node.call("GET", `/api/sandboxes/${sandbox}/checkpoints`);
    return list.body.find((c) => c.id === body.id)?.status === "ready";
  });
  return body.id;
}

/** Flips one bit in the middle of each chunk of a node that is down (checkpoint/segment.h). */
function rot(node) {
  const dirs = readdirSync(join(node.dir, "data"), { recursive: true }).filter((path) => /(^|\/)segments$/.test(path));
  let flipped = 0;
  for (const dir of dirs) for (const name of readdirSync(join(node.dir, "data", dir))) {
    const path = join(node.dir, "data", dir, name);
    const bytes = readFileSync(path);
    for (let at = 64; at + 64 <= bytes.length && bytes.toString("latin1", at, at + 4) === "SHR1";) {
      const stored = bytes.readUInt32LE(at + 12);
      if (bytes[at + 4] === 1) {
        bytes[at + 64 + (stored >> 1)] ^= 0x10;
        flipped++;
      }
      at += 64 + Math.ceil(stored / 64) * 64;
    }
    writeFileSync(path, bytes);
  }
  return flipped;
}

if (inside) describe("copies", suite, () => {
  it("are made, made again after a loss, found again, and go", withCluster(3, async (cluster) => {
    const [first] = cluster.nodes;
    const sandbox = await create(first);
    const owner = await ownerOf(cluster, sandbox);
    const id = await checkpoint(first, sandbox, "one");
    const rows = await eventually("two copies", async () => {
      const counts = await held(cluster.nodes);
      return sum(counts) >= 2 && counts;
    });
    const holder = cluster.nodes.find((node, i) => rows[i] > 0 && node !== owner);
    const third = cluster.nodes.find((node) => node !== owner && node !== holder);
    assert.equal(await metric(owner, HELD), 1);
    assert.equal(await metric(third, HELD), 0);
    await settled(owner);
    assert.ok((await metric(holder, "shoal_replica_fetched_total")) >= 1);

    await holder.stop("SIGKILL");
    await eventually("a third copy", async () => (await metric(third, HELD)) === 1);
    await settled(owner);

    await holder.start();
    await cluster.settled();
    const trimmed = () => Promise.all(cluster.nodes.map((node) => metric(node, "shoal_replica_trimmed_total")));
    await eventually("one of three copies is trimmed", async () =>
      sum(await trimmed()) >= 1 && sum(await held(cluster.nodes)) === 2, 90_000);
    assert.equal(await metric(holder, "shoal_replica_fetched_total"), 0, "what was on its disk came again");
    assert.equal(await metric(owner, HELD), 1);

    const gone = await first.call("DELETE", `/api/sandboxes/${sandbox}/checkpoints/${id}`);
    assert.equal(gone.status, 204, JSON.stringify(gone.body));
    // From the answer on nobody brings it from a copy that is still there.
    const fork = await owner.call("POST", `/api/sandboxes/from-checkpoint/${id}`, {});
    assert.equal(fork.status, 404, JSON.stringify(fork.body));
    await eventually("no copy is left", async () => sum(await held(cluster.nodes)) === 0);
    const list = await first.call("GET", `/api/sandboxes/${sandbox}/checkpoints`);
    assert.deepEqual(list.body, []);
    await removeAll(cluster);
  }, prepare));

  it("that rot on a disk are never passed on, and are made whole", withCluster(3, async (cluster) => {
    const [first] = cluster.nodes;
    const sandbox = await create(first);
    const owner = await ownerOf(cluster, sandbox);
    await checkpoint(first, sandbox, "one");
    await eventually("two copies", async () => sum(await held(cluster.nodes)) === 2);
    await settled(owner);
    const counts = await held(cluster.nodes);
    const holder = cluster.nodes.find((node, i) => counts[i] > 0 && node !== owner);
    const third = cluster.nodes.find((node) => node !== owner && node !== holder);

    await holder.stop("SIGKILL");
    const flipped = rot(holder);
    assert.ok(flipped > 0, "no chunk was found in its segments");
    await holder.start();
    await cluster.settled();
    // Nobody else has it: the third node asks the holder, which finds out and gives it to nobody.
    await owner.stop("SIGKILL");
    await eventually("the third node gets nothing", async () =>
      (await metric(third, "shoal_replica_fetch_failed_total")) >= 1);
    assert.equal(await metric(third, HELD), 0);
    assert.equal(await metric(holder, "shoal_replica_healed_total"), 0);
    assert.equal(await metric(third, "shoal_replica_quarantined_total"), 0, "a bad chunk was passed on");

    await owner.start();
    await cluster.settled();
    await eventually("the copy is whole again", async () =>
      (await metric(holder, "shoal_replica_healed_total")) >= 1, 120_000);
    // Now it can be had of the holder alone.
    await owner.stop("SIGKILL");
    await eventually("a third copy", async () => (await metric(third, HELD)) === 1, 120_000);
    await owner.start();
    await cluster.settled();
    await removeAll(cluster);
  }, prepare));

  it("of what was deleted while a node was away go when it returns", withCluster(3, async (cluster) => {
    const [first] = cluster.nodes;
    const sandbox = await create(first);
    const owner = await ownerOf(cluster, sandbox);
    const id = await checkpoint(first, sandbox, "one");
    await eventually("two copies", async () => sum(await held(cluster.nodes)) === 2);
    const counts = await held(cluster.nodes);
    const holder = cluster.nodes.find((node, i) => counts[i] > 0 && node !== owner);
    await settled(owner);

    await holder.stop("SIGKILL");
    const other = cluster.nodes.find((node) => node !== holder);
    const gone = await other.call("DELETE", `/api/sandboxes/${sandbox}/checkpoints/${id}`);
    assert.equal(gone.status, 204, JSON.stringify(gone.body));
    await holder.start();
    await cluster.settled();
    await eventually("its copy is gone", async () =>
      (await metric(holder, "shoal_replica_ready")) === 1 && (await metric(holder, HELD)) === 0);
    assert.equal(sum(await held(cluster.nodes)), 0);
    await removeAll(cluster);
  }, prepare));

  it("of what is made while a node is away do not wait for it", withCluster(3, async (cluster) => {
    const [first] = cluster.nodes;
    const sandbox = await create(first);
    const owner = await ownerOf(cluster, sandbox);
    const away = cluster.nodes.find((node) => node !== owner);
    await away.stop("SIGKILL");
    const rest = cluster.running();
    await eventually("it counts as dead", async () => (await Promise.all(rest.map((node) => node.status())))
      .every((status) => status?.nodes.find((node) => node.name === away.name).state === "dead"));
    // Of six, some would have belonged there; it may come back for an hour.
    for (let i = 0; i < 6; i++) await checkpoint(owner, sandbox, `number-${i}`);
    await eventually("each has two copies", async () => (await held(rest)).every((count) => count === 6), 120_000);
    await removeAll(cluster);
  }, (node) => {
    prepare(node);
    node.options[node.options.indexOf("--replica-grace-s") + 1] = "3600";
  }));

  it("of a hibernated sandbox are made, and go with it", withCluster(3, async (cluster) => {
    const [first] = cluster.nodes;
    const sandbox = await create(first);
    const counts = (kind) => Promise.all(cluster.nodes.map((n) => metric(n, `shoal_replica_held{kind="${kind}"}`)));
    const { status, body } = await first.call("POST", `/api/sandboxes/${sandbox}/hibernate`);
    assert.equal(status, 200, JSON.stringify(body));
    await eventually("two copies", async () => sum(await counts("hibernation")) === 2);
    await eventually("and of what it is relative to", async () => sum(await counts("base")) >= 2);
    await settled(first);
    await removeAll(cluster);
    await eventually("no copy is left", async () => sum(await counts("hibernation")) === 0);
    await eventually("nor one without a row", async () => sum(await counts("none")) === 0);
  }, prepare));
});
