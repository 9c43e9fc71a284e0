// Three real daemons become one system, lose members, and heal.
import { describe, it } from "node:test";
import assert from "node:assert/strict";
import { eventually, suite, withCluster } from "./cluster.mjs";

const alive = (status) => status.nodes.filter((node) => node.state === "alive").map((node) => node.name).sort();

describe("cluster", suite, () => {
  it("three nodes agree on members, scheduler and state", withCluster(3, async (cluster) => {
    const seen = await cluster.settled();
    assert.deepEqual(alive(seen[0]), ["node-1", "node-2", "node-3"]);
    assert.equal(new Set(seen.map((status) => status.clusterId)).size, 1);
    assert.deepEqual([...seen[0].scheduler.voters].sort(), ["node-1", "node-2", "node-3"]);
  }));

  it("the key made by the first node opens every node", withCluster(3, async (cluster) => {
    for (const node of cluster.nodes) {
      assert.equal((await node.call("GET", "/api/sandboxes")).status, 200);
      const other = await fetch(`${node.url}/api/sandboxes`, { headers: { "X-API-Key": "osb_no" } });
      assert.equal(other.status, 401);
      await other.arrayBuffer();
    }
  }));

  it("a killed scheduler is replaced, and comes back as a member", withCluster(3, async (cluster) => {
    const [status] = await cluster.settled();
    const old = cluster.leader(status);
    const rest = cluster.nodes.filter((node) => node !== old);
    await old.stop("SIGKILL");
    await eventually("a new scheduler", async () => {
      const now = await rest[0].status();
      return now?.scheduler.leader && now.scheduler.leader !== old.name;
    });
    // and it takes orders
    const marked = await rest[0].call("POST", `/api/nodes/${rest[1].name}/cordon`);
    assert.equal(marked.status, 200, JSON.stringify(marked.body));
    await old.start();
    const seen = await cluster.settled();
    for (const now of seen) {
      assert.equal(now.nodes.find((node) => node.name === rest[1].name).mark, "cordoned");
    }
  }));

  it("all killed at once: everything acknowledged is there when they are back", withCluster(3, async (cluster) => {
    const [first, second, third] = cluster.nodes;
    assert.equal((await second.call("POST", "/api/nodes/node-3/drain")).status, 200);
    await Promise.all(cluster.nodes.map((node) => node.stop("SIGKILL")));
    await Promise.all([first, second, third].map((node) => node.start()));
    for (const status of await cluster.settled()) {
      assert.equal(status.nodes.find((node) => node.name === "node-3").mark, "draining");
    }
  }));

  it("the minority takes no orders, the majority does; both answer; the heal needs no help", withCluster(3, async (cluster) => {
    const [status] = await cluster.settled();
    const old = cluster.leader(status);
    const rest = cluster.nodes.filter((node) => node !== old);
    for (const node of rest) node.pause();
    const refused = await old.call("POST", `/api/nodes/${rest[0].name}/cordon`);
    assert.equal(refused.status, 503, JSON.stringify(refused.body));
    assert.equal((await old.call("GET", "/api/sandboxes")).status, 200);
    old.pause();
    for (const node of rest) node.resume();
    await eventually("a new scheduler", async () => {
      const now = await rest[0].status();
      return now?.scheduler.leader && now.scheduler.leader !== old.name;
    });
    assert.equal((await rest[0].call("POST", `/api/nodes/${rest[1].name}/cordon`)).status, 200);
    old.resume();
    for (const now of await cluster.settled()) {
      assert.equal(now.nodes.find((node) => node.name === rest[1].name).mark, "cordoned");
    }
  }));

  it("a node that was removed stays out, a new one takes its place", withCluster(3, async (cluster) => {
    const [first, , third] = cluster.nodes;
    await third.stop("SIGKILL");
    await eventually("node-3 is seen dead", async () =>
      (await first.status())?.nodes.find((node) => node.name === "node-3")?.state === "dead");
    assert.equal((await first.call("DELETE", "/api/nodes/node-3")).status, 204);
    await eventually("node-3 is gone", async () => {
      const now = await first.status();
      return now && !now.nodes.some((node) => node.name === "node-3");
    });
    await third.start();
    await eventually("it is told", async () => third.events("refused_by_node").length > 0 ||
      third.events("removed_from_cluster").length > 0);
    await third.stop("SIGKILL");
    third.wipe();
    await third.start("--join", await first.token());
    await cluster.settled();
  }));

  it("a node keeps the name under which it became a member", withCluster(2, async (cluster) => {
    const [first, second] = cluster.nodes;
    for (const node of [first, second]) { // the one that founded the cluster, and one that joined
      await node.stop("SIGTERM");
      await node.start("--worker-id", "renamed");
      assert.equal(node.events("name_kept").length, 1);
      for (const status of await cluster.settled()) assert.deepEqual(alive(status), ["node-1", "node-2"]);
      const answer = await fetch(`${node.url}/healthz`);
      assert.equal(answer.headers.get("x-shoal-node"), node.name);
      await answer.arrayBuffer();
    }
  }));

  it("a planned stop hands the office over before it is missed", withCluster(3, async (cluster) => {
    const [status] = await cluster.settled();
    const old = cluster.leader(status);
    const rest = cluster.nodes.filter((node) => node !== old);
    assert.equal(await old.stop("SIGTERM"), 0);
    await eventually("a new scheduler", async () => {
      const now = await rest[0].status();
      return now?.scheduler.leader && now.scheduler.leader !== old.name;
    });
    await old.start();
    await cluster.settled();
  }));
});
