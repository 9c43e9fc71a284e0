// Sandboxes and the loss of their node: three real daemons with fake-vmm, in a network
// namespace of their own (fake.mjs).
import { describe, it } from "node:test";
import assert from "node:assert/strict";
import { eventually, suite, withCluster } from "./cluster.mjs";
import { create, inNamespace, inside, lose, ownerOf, prepare, removeAll } from "./fake.mjs";

inNamespace("owners of sandboxes", import.meta.url);

const get = async (node, id) => (await node.call("GET", `/api/sandboxes/${id}`)).body;

async function hibernate(node, id) {
  const { status, body } = await node.call("POST", `/api/sandboxes/${id}/hibernate`);
  assert.equal(status, 200, JSON.stringify(body));
}

const replicated = (node, id) =>
  eventually("its state is on two nodes", async () => (await get(node, id)).durability?.state === "replicated");

const released = (node, id) => eventually("the log knows it", async () =>
  (await node.metrics()).includes('shoal_state_rows{table="owners"} 1\n'));

/** A sandbox that is hibernated, copied, and known to the log. */
async function hibernatedOne(cluster) {
  const [first] = cluster.nodes;
  const id = await create(first);
  const owner = await ownerOf(cluster, id);
  await hibernate(first, id);
  await replicated(first, id);
  await released(first, id);
  return { id, owner };
}

async function wake(node, id) {
  return eventually("it wakes", async () => {
    const { status, body } = await node.call("POST", `/api/sandboxes/${id}/wake`);
    return status === 200 ? body : false;
  });
}

if (inside) describe("owners", suite, () => {
  it("a hibernated sandbox wakes on another node when its own is lost", withCluster(3, async (cluster) => {
    const { id, owner } = await hibernatedOne(cluster);

    await lose(owner, id);
    const others = cluster.nodes.filter((node) => node !== owner);
    const woken = await wake(others[0], id);
    assert.equal(woken.sandboxID, id);
    assert.ok(others.some((node) => node.name === woken.workerID), woken.workerID);
    for (const node of others) assert.equal((await get(node, id)).workerID, woken.workerID);

    await owner.start();
    await cluster.settled();
    await eventually("the old owner lets it go", () => owner.events("sandbox_let_go").length > 0);
    for (const node of cluster.nodes) assert.equal((await get(node, id)).workerID, woken.workerID);
    await removeAll(cluster);
  }, prepare));

  it("what a missing node had is made ready, and given up when it is back", withCluster(3, async (cluster) => {
    const { id, owner } = await hibernatedOne(cluster);
    const others = cluster.nodes.filter((node) => node !== owner);
    const ready = () => others.flatMap((node) => node.events("artefact_made_ready").filter((e) => e.kind === "sandbox" && e.code === 0));
    const taken = () => others.flatMap((node) => node.events("sandbox_taken"));
    assert.equal(ready().length, 0);
    owner.pause();
    await eventually("its copy is made ready", () => ready().length > 0);
    assert.equal(taken().length, 0);
    owner.resume();
    await cluster.settled();
    assert.equal((await wake(others[0], id)).workerID, owner.name);
    await hibernate(others[0], id);
    await replicated(others[0], id);

    const before = ready().length;
    await lose(owner, id);
    await eventually("its newer copy is made ready", () => ready().length > before);
    assert.equal((await wake(others[0], id)).sandboxID, id);
    const [{ artefact }] = taken();
    assert.ok(ready().some((event) => event.artefact === artefact), `${artefact} was made ready`);
    await removeAll(cluster);
  }, prepare));

  it("a copy that was taken while its node was missing goes when that is back", withCluster(3, async (cluster) => {
    const [first] = cluster.nodes;
    const id = await create(first, { onNodeLoss: "restore", autosaveInterval: 10 });
    const owner = await ownerOf(cluster, id);
    await replicated(first, id);
    await released(first, id);
    const held = async (node) => (await node.metrics()).includes('shoal_replica_held{kind="hibernation"} 1\n');
    const others = cluster.nodes.filter((node) => node !== owner);
    const holder = (await held(others[0])) ? others[0] : others[1];
    const third = others.find((node) => node !== holder);
    // A majority knows that there are two copies; the one that is left alone must have heard of it, too.
    await eventually("the holder knows it", async () => {
      const text = await holder.metrics();
      const value = (name) => Number(text.match(new RegExp(`^shoal_replica_${name} (\\d+)$`, "m"))?.[1]);
      return value("entries") > 0 && value("entries") === value("full");
    });
    owner.pause();
    third.pause(); // so that the copy can be made, and no claim is granted
    await eventually("its node is missed", () =>
      holder.events("member_state").some((event) => event.node === owner.name && event.to === "dead"));
    const asked = holder.call("POST", `/api/sandboxes/${id}/wake`).catch(() => null); // has no answer yet
    await eventually("it is copied", () => holder.events("sandbox_taken").length > 0);
    owner.resume();
    third.resume();
    await cluster.settled();
    await eventually("the copy goes", () =>
      holder.events("sandbox_let_go").some((event) => event.why === "the node that has it is back"));
    const now = await eventually("it runs where it was", async () => {
      const body = await get(holder, id);
      return body?.status === "running" && body;
    });
    assert.equal(now.workerID, owner.name);
    await asked;
    await removeAll(cluster);
  }, prepare));

  it("its own node asks the log before it wakes it, and wakes nothing in a minority", withCluster(3, async (cluster) => {
    const [first] = cluster.nodes;
    const { id, owner } = await hibernatedOne(cluster);
    const others = cluster.nodes.filter((node) => node !== owner);
    for (const node of others) node.pause();
    const alone = await owner.call("POST", `/api/sandboxes/${id}/wake`);
    assert.equal(alone.status, 503, JSON.stringify(alone.body));
    assert.equal((await get(owner, id)).status, "hibernated");
    for (const node of others) node.resume();
    await cluster.settled();
    assert.equal((await wake(others[0], id)).workerID, owner.name);

    // and once more, for every wake is an epoch of its own
    await hibernate(first, id);
    await replicated(first, id);
    assert.equal((await wake(first, id)).status, "running");
    await removeAll(cluster);
  }, prepare));

  it("a running one that asked for it goes on elsewhere from its last save", withCluster(3, async (cluster) => {
    const [first] = cluster.nodes;
    const bad = await first.call("POST", "/api/sandboxes", { templateID: "minimal", autosaveInterval: 10 });
    assert.equal(bad.status, 400, JSON.stringify(bad.body));
    const id = await create(first, { onNodeLoss: "restore", autosaveInterval: 10 });
    const owner = await ownerOf(cluster, id);
    assert.equal((await get(first, id)).onNodeLoss, "restore");
    await replicated(first, id);
    await released(first, id);
    const other = cluster.nodes.find((node) => node !== owner);

    await lose(owner, id);
    const now = await eventually("it runs elsewhere, without being asked", async () => {
      const { status, body } = await other.call("GET", `/api/sandboxes/${id}`);
      return status === 200 && body.status === "running" && body.workerID !== owner.name && body;
    }, 90_000);

    await owner.start();
    await cluster.settled();
    await eventually("the old one is gone", async () => {
      const { body } = await owner.call("GET", `/api/sandboxes/${id}`);
      return body.workerID === now.workerID && body.status === "running";
    });
    assert.equal((await get(owner, id)).workerID, now.workerID);
    await removeAll(cluster);
  }, prepare));

  it("one that was killed does not come back with a node that was away", withCluster(3, async (cluster) => {
    const { id, owner } = await hibernatedOne(cluster);
    await lose(owner, id);
    const other = cluster.nodes.find((node) => node !== owner);
    await eventually("it is killed through another node", async () =>
      (await other.call("DELETE", `/api/sandboxes/${id}`)).status === 204);
    await owner.start();
    await cluster.settled();
    await eventually("nobody has it", async () => {
      const { status, body } = await owner.call("GET", `/api/sandboxes/${id}`);
      return status === 404 || body.status === "stopped";
    });
    await removeAll(cluster);
  }, prepare));

  it("a running one is moved, and everything that runs leaves a node", withCluster(3, async (cluster) => {
    const [first] = cluster.nodes;
    const id = await create(first);
    const owner = await ownerOf(cluster, id);
    const [target] = cluster.nodes.filter((node) => node !== owner);
    const move = (to) => first.call("POST", `/api/sandboxes/${id}/migrate`, to === undefined ? {} : { targetWorker: to });
    assert.equal((await move(undefined)).status, 400);
    assert.equal((await move(owner.name)).status, 400);
    assert.equal((await move("nobody")).status, 404);
    const kept = await first.call("POST", `/api/sandboxes/${id}/checkpoints`, { name: "stays here" });
    assert.equal(kept.status, 201, JSON.stringify(kept.body));
    const moved = await move(target.name);
    assert.equal(moved.status, 200, JSON.stringify(moved.body));
    assert.equal(moved.body.sourceWorker, owner.name);
    const there = await get(first, id);
    assert.equal(there.workerID, target.name);
    assert.equal(there.status, "running");
    assert.equal((await get(owner, id)).workerID, target.name, "the node that has its checkpoint knows where it went");

    const drained = await first.call("POST", `/admin/workers/${target.name}/drain`);
    assert.equal(drained.status, 200);
    const evicted = await first.call("POST", `/admin/workers/${target.name}/evict`);
    assert.equal(evicted.status, 202);
    await eventually("it runs on another node", async () => {
      const now = await get(first, id);
      return now?.status === "running" && now.workerID !== target.name;
    });
    await removeAll(cluster);
  }, prepare));

  it("a node that is stopped in the middle of a move ends as it should, and its sandbox is where it was", withCluster(3, async (cluster) => {
    const [first] = cluster.nodes;
    const id = await create(first);
    const owner = await ownerOf(cluster, id);
    const target = cluster.nodes.find((node) => node !== owner);
    const moving = owner.call("POST", `/api/sandboxes/${id}/migrate`, { targetWorker: target.name }).catch(() => null);
    await eventually("it is on its way", async () => (await get(owner, id))?.status !== "running");
    assert.equal(await owner.stop(), 0, owner.text().slice(-2000));
    await moving;
    await owner.start();
    await cluster.settled();
    assert.equal((await wake(first, id)).sandboxID, id);
    await removeAll(cluster);
  }, prepare));

  it("a checkpoint is forked where it was never made, after its node is lost", withCluster(3, async (cluster) => {
    const [first] = cluster.nodes;
    const id = await create(first);
    const owner = await ownerOf(cluster, id);
    const made = await first.call("POST", `/api/sandboxes/${id}/checkpoints`, { name: "one" });
    assert.equal(made.status, 201);
    await eventually("it is replicated", async () => {
      const { body } = await first.call("GET", `/api/sandboxes/${id}/checkpoints`);
      return body[0].durability?.state === "replicated";
    });
    await lose(owner, id);
    const other = cluster.nodes.find((node) => node !== owner);
    const fork = await eventually("a fork", async () => {
      const { status, body } = await other.call("POST", `/api/sandboxes/from-checkpoint/${made.body.id}`, {});
      return status === 201 && body;
    });
    assert.notEqual(fork.sandboxID, id);
    assert.equal((await get(other, fork.sandboxID)).status, "running");
    await owner.start();
    await cluster.settled();
    await removeAll(cluster);
  }, prepare));
});
