// Secret stores of a cluster: through any node, past the death of the scheduler, with a key that
// each node has in a box of its own.
import { describe, it } from "node:test";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import assert from "node:assert/strict";
import { eventually, suite, withCluster } from "./cluster.mjs";

const VALUE = "sk-live-4711-never-on-disk";

async function ok(promise, status = 200) {
  const reply = await promise;
  assert.equal(reply.status, status, JSON.stringify(reply.body));
  return reply.body;
}

const store = (node, name, more = {}) => ok(node.call("POST", "/api/secret-stores", { name, ...more }), 201);
const names = async (node) => (await ok(node.call("GET", "/api/secret-stores"))).map((one) => one.name);
const figure = async (node, name) => Number(new RegExp(`^${name} (\\d+)`, "m").exec(await node.metrics())?.[1]);

/** Files below the folder of @node in which @text is. */
function filesWith(node, text) {
  try {
    return execFileSync("grep", ["-rlaF", text, node.dir], { encoding: "utf8" }).trim().split("\n");
  } catch (error) {
    assert.equal(error.status, 1, error.stderr);
    return [];
  }
}

describe("secret stores", suite, () => {
  it("what one node took every other shows at once", withCluster(3, async ({ nodes: [one, two, three] }) => {
    const made = await store(one, "prod", { egressAllowlist: ["*.openai.com"] });
    assert.deepEqual(await ok(two.call("GET", `/api/secret-stores/${made.id}`)), made);
    await ok(two.call("PUT", `/api/secret-stores/${made.id}/secrets/KEY`, { value: VALUE, allowedHosts: ["api.openai.com"] }));
    const [secret] = await ok(three.call("GET", `/api/secret-stores/${made.id}/secrets`));
    assert.deepEqual([secret.name, secret.allowedHosts], ["KEY", ["api.openai.com"]]);
    await ok(three.call("PUT", `/api/secret-stores/${made.id}`, { name: "live" }));
    assert.deepEqual(await names(one), ["live"]);
    await ok(one.call("DELETE", `/api/secret-stores/${made.id}`), 204);
    for (const node of [one, two, three]) assert.deepEqual(await names(node), []);
  }));

  it("a name is given once, whoever asks at the same moment", withCluster(3, async ({ nodes }) => {
    const replies = await Promise.all(Array.from({ length: 9 }, (_, i) =>
      nodes[i % 3].call("POST", "/api/secret-stores", { name: "same" })));
    assert.deepEqual(replies.map((reply) => reply.status).sort(), [201, ...Array(8).fill(409)]);
    assert.deepEqual(await names(nodes[1]), ["same"]);
  }));

  it("goes on when the scheduler dies, and everything is there when all were killed", withCluster(3, async (cluster) => {
    const [status] = await cluster.settled();
    const old = cluster.leader(status);
    const rest = cluster.nodes.filter((node) => node !== old);
    const made = await store(old, "prod");
    await ok(old.call("PUT", `/api/secret-stores/${made.id}/secrets/A`, { value: VALUE }));
    await old.stop("SIGKILL");
    await eventually("a secret is set without the old scheduler", async () =>
      (await rest[0].call("PUT", `/api/secret-stores/${made.id}/secrets/B`, { value: VALUE })).status === 200);
    await Promise.all(rest.map((node) => node.stop("SIGKILL")));
    await Promise.all(cluster.nodes.map((node) => node.start()));
    await cluster.settled();
    const list = await ok(old.call("GET", `/api/secret-stores/${made.id}/secrets`));
    assert.deepEqual(list.map((secret) => secret.name), ["A", "B"]);
  }));

  it("values are on no disk and in no log as they are", withCluster(3, async (cluster) => {
    const made = await store(cluster.nodes[0], "prod");
    for (const node of cluster.nodes) {
      await ok(node.call("PUT", `/api/secret-stores/${made.id}/secrets/K${node.index}`, { value: VALUE }));
      await ok(node.call("PUT", `/api/secret-stores/${made.id}/secrets/9`, { value: VALUE }), 400);
      await ok(node.call("PUT", `/api/secret-stores/${made.id}/secrets/Q`, { value: [VALUE] }), 400);
    }
    await cluster.settled();
    await Promise.all(cluster.nodes.map((node) => node.stop()));
    for (const node of cluster.nodes) {
      assert.notDeepEqual(filesWith(node, made.id), [], "the search finds what is there");
      assert.deepEqual(filesWith(node, VALUE), []);
    }
  }));

  it("a node that joins is given the key; one that is removed makes a new one", withCluster(3, async (cluster) => {
    const [one, two, three] = cluster.nodes;
    const made = await store(one, "prod");
    await ok(one.call("PUT", `/api/secret-stores/${made.id}/secrets/A`, { value: VALUE }));
    const fourth = await cluster.node().start("--join", await one.token());
    await eventually("the new node seals", async () =>
      (await fourth.call("PUT", `/api/secret-stores/${made.id}/secrets/B`, { value: VALUE })).status === 200);
    assert.equal(await figure(fourth, "shoal_secret_key_generation"), 1);

    await three.stop();
    await ok(one.call("POST", "/api/nodes/node-3/drain"));
    await ok(one.call("DELETE", "/api/nodes/node-3"), 204);
    await eventually("a second key, and all values sealed with it", async () =>
      (await figure(two, "shoal_secret_key_generation")) === 2 && (await figure(two, "shoal_secrets_old_key")) === 0);
    assert.equal(await figure(two, "shoal_secrets"), 2);
    await eventually("on the new node too", async () => (await figure(fourth, "shoal_secret_key_generation")) === 2);
    await ok(fourth.call("PUT", `/api/secret-stores/${made.id}/secrets/C`, { value: VALUE }));
    cluster.nodes.splice(2, 1);
  }));
});
