// Sandboxes that do not come back by themselves, and nodes that come back without theirs: three
// real daemons with fake-vmm, in a network namespace of their own (fake.mjs).
import { describe, it } from "node:test";
import assert from "node:assert/strict";
import { eventually, suite, withCluster } from "./cluster.mjs";
import { create, inNamespace, inside, lose, ownerOf, prepare, removeAll } from "./fake.mjs";

inNamespace("lost sandboxes", import.meta.url);

const get = async (node, id) => (await node.call("GET", `/api/sandboxes/${id}`)).body;
const recover = (node, id) => node.call("POST", `/api/sandboxes/${id}/recover`);
const rows = async (node, table) => Number(new RegExp(`shoal_state_rows{table="${table}"} (\\d+)`).exec(await node.metrics())?.[1]);
const recordsOf = async (node) => Number(/^shoal_gossip_records (\d+)$/m.exec(await node.metrics())[1]);

async function keep(node, id, name) {
  const made = await node.call("POST", `/api/sandboxes/${id}/checkpoints`, { name });
  assert.equal(made.status, 201, JSON.stringify(made.body));
  await eventually("the checkpoint is on two nodes", async () => {
    const { body } = await node.call("GET", `/api/sandboxes/${id}/checkpoints`);
    return body.find((c) => c.id === made.body.id)?.durability?.state === "replicated";
  });
  await eventually("the log knows the sandbox", async () => (await rows(node, "owners")) === 1);
  return made.body.id;
}

/** The machine is restarted: its VMMs are gone, its data are not. */
async function restartMachine(node, id) {
  await lose(node, id);
  await node.start();
}

if (inside) describe("lost", suite, () => {
  it("a sandbox of a lost node is an error, and is recovered when that node was removed", withCluster(3, async (cluster) => {
    const [first] = cluster.nodes;
    const id = await create(first);
    const owner = await ownerOf(cluster, id);
    assert.equal((await recover(first, id)).status, 400, "it runs");
    const checkpoint = await keep(first, id, "one");
    assert.equal((await get(first, id)).status, "running");

    await lose(owner, id);
    const others = cluster.nodes.filter((node) => node !== owner);
    for (const node of others) {
      const shown = await eventually("it is an error", async () => {
        const { status, body } = await node.call("GET", `/api/sandboxes/${id}`);
        return status === 200 && body.status === "error" && body;
      });
      assert.match(shown.reason, new RegExp(`${owner.name} is lost.*recover it from ${checkpoint}, \\d+ s old`));
      assert.equal(shown.memoryMB, 512);
      assert.equal((await node.call("POST", `/api/sandboxes/${id}/exec/run`, { cmd: "true" })).status, 503);
      const early = await eventually("it is known to be lost", async () => {
        const answer = await recover(node, id);
        return answer.status !== 503 && answer;
      });
      assert.equal(early.status, 400, JSON.stringify(early.body));
      assert.match(early.body.error, /shoal node rm/);
    }

    const removed = await others[0].call("DELETE", `/api/nodes/${owner.name}`);
    assert.equal(removed.status, 204, JSON.stringify(removed.body));
    await eventually("it can be recovered", async () =>
      /recover it \(shoal recover\)/.test((await get(others[1], id)).reason));
    const back = await eventually("it is recovered", async () => {
      const { status, body } = await recover(others[1], id);
      return status === 200 && body;
    });
    assert.equal(back.status, "running");
    assert.equal(back.recoveredFrom.checkpointId, checkpoint);
    assert.equal(back.recoveredFrom.kind, "checkpoint");
    assert.ok(back.recoveredFrom.ageSeconds >= 0);
    assert.ok(others.some((node) => node.name === back.workerID));
    for (const node of others) assert.equal((await get(node, id)).workerID, back.workerID);
    assert.equal((await recover(others[0], id)).status, 400, "it runs");
    const list = await others[0].call("GET", `/api/sandboxes/${id}/checkpoints`);
    assert.equal(list.status, 200);
    await removeAll(cluster);
    await eventually("nothing is left in the log", async () => (await rows(others[0], "owners")) === 0);
  }, prepare));

  it("one of which nothing is elsewhere comes back with its node", withCluster(3, async (cluster) => {
    const [first] = cluster.nodes;
    const before = await Promise.all(cluster.nodes.map(recordsOf));
    const id = await create(first);
    const owner = await ownerOf(cluster, id);
    const other = cluster.nodes.find((node) => node !== owner);
    await eventually("the others have heard of it", async () =>
      (await Promise.all(cluster.nodes.map(recordsOf))).every((count, i) => count > before[i]));
    await owner.stop("SIGKILL");
    await eventually("it is an error", async () => (await get(other, id))?.status === "error");
    assert.match((await get(other, id)).reason, /there is no copy/);
    assert.equal((await recover(other, id)).status, 400);
    assert.equal((await recover(other, "sb-00000000")).status, 404);
    await owner.start();
    await cluster.settled();
    assert.equal((await get(other, id)).status, "running");
    await removeAll(cluster);
  }, prepare));

  it("a node that comes back without its VMs takes what is to be restored from its newest save", withCluster(3, async (cluster) => {
    const [first] = cluster.nodes;
    const id = await create(first, { onNodeLoss: "restore", autosaveInterval: 10 });
    const owner = await ownerOf(cluster, id);
    await eventually("its state is on two nodes", async () => (await get(first, id)).durability?.state === "replicated");
    await eventually("the log knows it", async () => (await rows(first, "owners")) === 1);
    await restartMachine(owner, id);
    const now = await eventually("it runs again, without being asked", async () => {
      const { status, body } = await first.call("GET", `/api/sandboxes/${id}`);
      return status === 200 && body.status === "running" && body;
    }, 90_000);
    assert.equal(now.sandboxID, id);
    await eventually("somebody says so", () => cluster.nodes.some((node) => node.events("sandbox_recovered").length > 0));
    await removeAll(cluster);
  }, prepare));

  it("and the others when they are recovered", withCluster(3, async (cluster) => {
    const [first] = cluster.nodes;
    const id = await create(first);
    const owner = await ownerOf(cluster, id);
    const checkpoint = await keep(first, id, "one");
    await restartMachine(owner, id);
    await cluster.settled();
    const shown = await eventually("it is an error", async () => {
      const body = await get(first, id);
      return body.status === "error" && body;
    });
    assert.match(shown.reason, /VMM was killed/);
    const back = await eventually("it is recovered", async () => {
      const { status, body } = await recover(first, id);
      return status === 200 && body;
    });
    assert.equal(back.recoveredFrom.checkpointId, checkpoint);
    assert.equal(back.status, "running");
    assert.equal(back.workerID, owner.name);
    await removeAll(cluster);
  }, prepare));

  it("a daemon that is restarted says so: its sandboxes stay, and nobody takes them", withCluster(3, async (cluster) => {
    const [first] = cluster.nodes;
    const id = await create(first, { onNodeLoss: "restore", autosaveInterval: 10 });
    const owner = await ownerOf(cluster, id);
    const others = cluster.nodes.filter((node) => node !== owner);
    await eventually("its state is on two nodes", async () => (await get(first, id)).durability?.state === "replicated");
    await eventually("the log knows it", async () => (await rows(first, "owners")) === 1);
    if ((await first.status()).scheduler.leader !== owner.name) { // so that the leader is the one that restarts
      for (const node of others) await node.stop();
      for (const node of others) await node.start();
      await cluster.settled();
    }
    const { term } = (await others[0].status()).scheduler;
    assert.equal(await owner.stop(), 0);
    const left = Date.now();
    const after = await eventually("another one schedules", async () => {
      const status = await others[0].status();
      return status?.scheduler.leader && status.scheduler.leader !== owner.name && status;
    });
    assert.equal(after.nodes.find((node) => node.name === owner.name).state, "left");
    assert.ok(after.scheduler.term > term || after.scheduler.leader !== owner.name);
    // longer than its lease: without the good-bye another node would have it by now
    await eventually("its lease has ended", async () => {
      const { status, body } = await others[0].call("GET", `/api/sandboxes/${id}`);
      assert.equal(status, 503, JSON.stringify(body));
      assert.match(body.error, /restarts/);
      return Date.now() - left > 16_000;
    });
    await owner.start();
    await cluster.settled();
    const now = await get(others[0], id);
    assert.equal(now.workerID, owner.name);
    assert.equal(now.status, "running");
    assert.ok(owner.events("sandbox_adopted").length > 0);
    assert.ok(cluster.nodes.every((node) => node.events("sandbox_recovered").length + node.events("sandbox_taken").length === 0));
    await removeAll(cluster);
  }, prepare));
});
