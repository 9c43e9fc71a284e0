// A node that is drained: its hibernated sandboxes wake on others. Three real daemons with fake-vmm.
import { describe, it } from "node:test";
import assert from "node:assert/strict";
import { eventually, suite, withCluster } from "./cluster.mjs";
import { create, inNamespace, inside, ownerOf, prepare, removeAll } from "./fake.mjs";

inNamespace("a drained node", import.meta.url);

const run = (node, id, cmd) => node.call("POST", `/api/sandboxes/${id}/exec/run`, { cmd });

if (inside) describe("a drained node", suite, () => {
  it("gives its hibernated sandboxes to who wakes them, through itself or another node, with what they had", withCluster(3, async (cluster) => {
    const [first] = cluster.nodes;
    for (const value of [77, 78]) {
      const id = await create(first);
      const owner = await ownerOf(cluster, id);
      const entry = value === 77 ? owner : cluster.nodes.find((node) => node !== owner);
      assert.equal((await run(first, id, `set ${value}`)).status, 200);
      assert.equal((await first.call("POST", `/api/sandboxes/${id}/hibernate`)).status, 200);
      await eventually("it is on two nodes", async () =>
        (await first.call("GET", `/api/sandboxes/${id}`)).body.durability?.state === "replicated");
      const drained = await first.call("POST", `/admin/workers/${owner.name}/drain`);
      assert.deepEqual([drained.status, drained.body], [200, { workerID: owner.name, draining: true }]);
      for (const node of [owner, entry]) {
        await eventually("the node knows that", async () =>
          (await node.call("GET", "/api/workers")).body.find((worker) => worker.worker_id === owner.name)?.draining);
      }
      let last;
      await eventually("it wakes", async () => {
        last = await run(entry, id, "get");
        return last.status === 200 && last.body.stdout === `${value}\n`;
      }).catch((error) => assert.fail(`${error.message}: ${JSON.stringify(last?.body)}`));
      assert.notEqual((await ownerOf(cluster, id)).name, owner.name);
      const over = await first.call("POST", `/admin/workers/${owner.name}/drain?drain=false`);
      assert.deepEqual([over.status, over.body.draining], [200, false]);
    }
    await removeAll(cluster);
  }, prepare));

  it("takes no fork and no sandbox any more as soon as it is cordoned, whoever is asked", withCluster(3, async (cluster) => {
    const { nodes } = cluster;
    const id = await create(nodes[0]);
    const owner = await ownerOf(cluster, id);
    const { status, body: { id: checkpoint } } = await owner.call("POST", `/api/sandboxes/${id}/checkpoints`, { name: "a" });
    assert.equal(status, 201);
    const mark = async (how, through) => {
      const { status, body } = await through.call("POST", `/api/nodes/${owner.name}/${how}`);
      assert.equal(status, 200, JSON.stringify(body));
    };
    await mark("cordon", owner);
    for (const node of nodes) {
      await eventually("it is known to be forkable elsewhere", async () => {
        const { status, body } = await node.call("POST", `/api/sandboxes/from-checkpoint/${checkpoint}`, {});
        if (status === 201) await node.call("DELETE", `/api/sandboxes/${body.sandboxID}`);
        return status === 201;
      });
    }
    await mark("uncordon", owner);
    for (let turn = 0; turn < 9; turn++) {
      const others = nodes.filter((node) => node !== owner);
      await mark("cordon", nodes[turn % 3]);
      const made = await Promise.all([owner, ...others].flatMap((node) => [
        node.call("POST", `/api/sandboxes/from-checkpoint/${checkpoint}`, {}),
        node.call("POST", "/api/sandboxes", { templateID: "minimal", memoryMB: 512 })]));
      for (const { status, body } of made) {
        assert.equal(status, 201, JSON.stringify(body));
        assert.notEqual(body.workerID, owner.name, `turn ${turn}`);
      }
      await Promise.all(made.map(({ body }) => nodes[0].call("DELETE", `/api/sandboxes/${body.sandboxID}`)));
      await mark("uncordon", nodes[turn % 3]);
    }
    await removeAll(cluster);
  }, prepare));

  it("that hangs is not waited for longer than it counts as alive", withCluster(3, async (cluster) => {
    const [first, second, third] = cluster.nodes;
    await cluster.settled();
    third.pause();
    const { status, body } = await first.call("POST", "/api/nodes/node-3/cordon");
    if (status !== 200) assert.match(body.error, /the mark is set, but node node-3 has not said/);
    await eventually("it is dead", async () => (await second.status())?.nodes.find(({ name }) => name === "node-3").state === "dead");
    assert.equal((await second.call("POST", "/api/nodes/node-3/cordon")).status, 200);
    third.resume();
    for (const now of await cluster.settled()) assert.equal(now.nodes.find(({ name }) => name === "node-3").mark, "cordoned");
  }, prepare));

  it("without a node that could take it says so, and wakes it when it is drained no more", withCluster(1, async (cluster) => {
    const [node] = cluster.nodes;
    const id = await create(node);
    assert.equal((await node.call("POST", `/api/sandboxes/${id}/hibernate`)).status, 200);
    assert.equal((await node.call("POST", `/admin/workers/${node.name}/drain`)).status, 200);
    const refused = await run(node, id, "get");
    assert.equal(refused.status, 503);
    assert.match(refused.body.error, /draining/);
    assert.equal((await node.call("GET", `/api/sandboxes/${id}`)).body.status, "hibernated");
    assert.equal((await node.call("POST", `/admin/workers/${node.name}/drain?drain=false`)).status, 200);
    assert.equal((await run(node, id, "get")).status, 200);
    await removeAll(cluster);
  }, prepare));
});
