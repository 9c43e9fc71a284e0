// Sealed tokens of sandboxes on real daemons with fake-vmm, in a network namespace of their own
// (fake.mjs): they go with the sandbox from node to node, values go nowhere.
import { describe, it } from "node:test";
import { execFileSync } from "node:child_process";
import assert from "node:assert/strict";
import { eventually, suite, withCluster } from "./cluster.mjs";
import { create, inNamespace, inside, lose, ownerOf, prepare, removeAll } from "./fake.mjs";

inNamespace("sealed tokens", import.meta.url);

const VALUE = "sk-live-4711-never-on-disk";

async function ok(promise, status = 200) {
  const reply = await promise;
  assert.equal(reply.status, status, JSON.stringify(reply.body));
  return reply.body;
}

/** What in the folder of @node, but for disks (20 GiB of holes), matches @pattern, each once. */
function found(node, pattern) {
  try {
    const text = execFileSync("grep", ["-rohaE", "--exclude-dir=layers", pattern, node.dir], { encoding: "utf8", maxBuffer: 1 << 26 });
    return [...new Set(text.trim().split("\n"))].sort();
  } catch (error) {
    assert.equal(error.status, 1, error.stderr);
    return [];
  }
}

const tokens = (node) => found(node, "osb_sealed_[0-9a-f]{32}");

if (inside) describe("sealed tokens", suite, () => {
  it("go with a sandbox that wakes elsewhere; values are on no disk", withCluster(3, async (cluster) => {
    const [first] = cluster.nodes;
    const store = await ok(first.call("POST", "/api/secret-stores", { name: "prod" }), 201);
    await ok(first.call("PUT", `/api/secret-stores/${store.id}/secrets/KEY`, { value: VALUE }));
    await ok(first.call("POST", "/api/sandboxes", { templateID: "minimal", memoryMB: 512, secretStore: "no" }), 400);
    const id = await create(first, { secretStore: "prod" });
    const owner = await ownerOf(cluster, id);
    const [token, ...more] = tokens(owner);
    assert.ok(token, "its record has the token");
    assert.deepEqual(more, []);

    await ok(first.call("POST", `/api/sandboxes/${id}/hibernate`));
    await eventually("its state is on two nodes", async () =>
      (await first.call("GET", `/api/sandboxes/${id}`)).body.durability?.state === "replicated");
    await eventually("the log knows it", async () =>
      (await first.metrics()).includes('shoal_state_rows{table="owners"} 1\n'));
    await lose(owner, id);
    const rest = cluster.nodes.filter((node) => node !== owner);
    await eventually("it wakes", async () =>
      (await rest[0].call("POST", `/api/sandboxes/${id}/wake`)).status === 200);
    const now = rest.find((node) => node.name !== owner.name && tokens(node).length > 0);
    assert.deepEqual(tokens(now), [token], "the same token on the node where it goes on");
    await removeAll({ running: () => rest });
    for (const node of cluster.nodes) assert.deepEqual(found(node, VALUE), []);
    await owner.start();
    await cluster.settled();
  }, prepare));

  // only one node has guests, and so a gateway: when it is gone, no other one looks at the row
  it("the authority of gateways is sealed with the next key, too", withCluster(3, async (cluster) => {
    const [one, two] = cluster.nodes;
    const figure = async (name) => Number(new RegExp(`^${name} (\\d+)`, "m").exec(await two.metrics())?.[1]);
    await eventually("it is made", () => found(two, "egress/authority").length > 0);
    assert.equal(await figure("shoal_secret_key_generation"), 1);
    await one.stop();
    await ok(two.call("POST", "/api/nodes/node-1/drain"));
    await ok(two.call("DELETE", "/api/nodes/node-1"), 204);
    await eventually("a second key, and nothing sealed with the first", async () =>
      (await figure("shoal_secret_key_generation")) === 2 && (await figure("shoal_secrets_old_key")) === 0);
    cluster.nodes.splice(0, 1);
  }, (node) => node.index === 1 && prepare(node)));
});
