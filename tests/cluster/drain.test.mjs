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
