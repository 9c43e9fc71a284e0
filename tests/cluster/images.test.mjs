// Images and snapshots: three real daemons with fake-vmm, in a network namespace of their own.
import { describe, it } from "node:test";
import assert from "node:assert/strict";
import { eventually, suite, withCluster } from "./cluster.mjs";
import { create, inNamespace, inside, prepare, removeAll } from "./fake.mjs";

inNamespace("images", import.meta.url);

// fake-vmm has no files and no commands worth the name: an image without steps is the template, kept.
const image = { base: "minimal", steps: [], builderMemoryMB: 1024, runtimeMemoryMB: 1024 };
const make = (node, name, more = {}) => node.call("POST", "/api/snapshots", { name, image: { ...image, ...more } });

/** A create from an image as the SDKs ask for it: what was logged, and the sandbox. */
async function fromImage(cluster, node, more = {}) {
  const response = await fetch(`${node.url}/api/sandboxes`, {
    method: "POST",
    headers: { "X-API-Key": cluster.key, "Content-Type": "application/json", Accept: "text/event-stream" },
    body: JSON.stringify({ image: { ...image, ...more } }),
    signal: AbortSignal.timeout(60_000),
  });
  const events = (await response.text()).split("\n\n").map((event) => /^event: (\w+)\ndata: (.*)$/.exec(event)).filter(Boolean);
  const of = (kind) => events.filter(([, name]) => name === kind).map(([, , data]) => JSON.parse(data));
  assert.deepEqual(of("error"), []);
  return { lines: of("build_log").map(({ message }) => message), sandbox: of("result")[0] };
}

/** Nodes that have so much memory each, of which 256 MB or a 16th are not for sandboxes. */
const withMemory = (...sizes) => (node) => {
  prepare(node);
  node.options.push("--memory-mb", `${sizes[(node.index - 1) % sizes.length]}`);
};

if (inside) describe("images", suite, () => {
  it("ten requests on three nodes make one build; every node serves what one built", withCluster(3, async (cluster) => {
    const answers = await Promise.all(
      Array.from({ length: 10 }, (_, i) => make(cluster.nodes[i % 3], `all-${i}`)));
    for (const { status, body } of answers) assert.equal(status, 201, JSON.stringify(body));
    assert.equal(new Set(answers.map(({ body }) => body.checkpointId)).size, 1, "one build");
    const checkpoint = answers[0].body.checkpointId;

    for (const node of cluster.nodes) {
      const { body } = await node.call("GET", "/api/snapshots");
      assert.equal(body.length, 10);
      const box = await create(node, { snapshot: "all-3", memoryMB: undefined });
      const { body: shown } = await node.call("GET", `/api/sandboxes/${box}`);
      assert.equal(shown.memoryMB, 1024);
      assert.equal(shown.fromCheckpointId, checkpoint);
      const taken = await make(node, "all-0");
      assert.equal(taken.status, 409, JSON.stringify(taken.body));
    }
    assert.equal((await cluster.nodes[1].call("DELETE", "/api/snapshots/all-0")).status, 204);
    assert.equal((await cluster.nodes[2].call("GET", "/api/snapshots/all-0")).status, 404);

    // a patch that one node was told is known to all
    const told = await cluster.nodes[2].call("POST", `/api/sandboxes/checkpoints/${checkpoint}/patches`,
      { script: "true" });
    assert.equal(told.status, 201, JSON.stringify(told.body));
    for (const node of cluster.nodes) {
      const { body } = await node.call("GET", `/api/sandboxes/checkpoints/${checkpoint}/patches`);
      assert.deepEqual(body.map(({ sequence }) => sequence), [1]);
    }
    await removeAll(cluster);
  }, prepare));

  it("ten requests at once need one builder's memory, which only one of the nodes has", withCluster(3, async (cluster) => {
    const answers = await Promise.all(
      Array.from({ length: 10 }, (_, i) => make(cluster.nodes[i % 3], `scarce-${i}`)));
    for (const { status, body } of answers) assert.equal(status, 201, JSON.stringify(body));
    assert.equal(new Set(answers.map(({ body }) => body.checkpointId)).size, 1, "one build");
    // and none at all when the image is there: the one place is taken
    await eventually("the scheduler knows that the builder is gone", () =>
      create(cluster.nodes[0], { memoryMB: 1024 }).catch(() => false));
    for (const node of cluster.nodes) {
      const { status, body } = await make(node, `found-${node.name}`);
      assert.equal(status, 201, JSON.stringify(body));
      const refused = await make(node, `new-${node.name}`, { steps: [{ type: "env", args: { vars: { B: "1" } } }] });
      assert.equal(refused.status, 503, JSON.stringify(refused.body));
    }
    await removeAll(cluster);
  }, withMemory(1280, 768, 768)));

  it("ten sandboxes of one image go where there is room when it is built", withCluster(3, async (cluster) => {
    // 5 on each node, or one builder and one
    const answers = await Promise.all(Array.from({ length: 10 }, (_, i) => cluster.nodes[i % 3].call("POST", "/api/sandboxes",
      { image: { ...image, builderMemoryMB: 4096 } })));
    for (const { status, body } of answers) assert.equal(status, 201, JSON.stringify(body));
    assert.equal(new Set(answers.map(({ body }) => body.fromCheckpointId)).size, 1, "one build");
    assert.equal(new Set(answers.map(({ body }) => body.sandboxID)).size, 10);
    await removeAll(cluster);
  }, withMemory(5500)));

  it("what one node built is found in the cache by the others, also at the same moment", withCluster(3, async (cluster) => {
    const first = await fromImage(cluster, cluster.nodes[0]);
    assert.ok(first.lines.some((line) => /^Building image/.test(line)), first.lines.join("\n"));
    for (const node of cluster.nodes) {
      const { lines, sandbox } = await fromImage(cluster, node, { builderMemoryMB: 2048 });
      assert.ok(lines.some((line) => /found in cache/.test(line)), lines.join("\n"));
      assert.ok(!lines.some((line) => /^Building|^Step/.test(line)), lines.join("\n"));
      assert.equal(sandbox.fromCheckpointId, first.sandbox.fromCheckpointId);
      assert.notEqual(sandbox.sandboxID, first.sandbox.sandboxID);
    }
    await removeAll(cluster);
    // another image, asked for by six at once
    const at = await Promise.all(Array.from({ length: 6 }, (_, i) => fromImage(cluster, cluster.nodes[i % 3], { steps: [{ type: "env", args: { vars: { A: "1" } } }] })));
    assert.equal(new Set(at.map(({ sandbox }) => sandbox.fromCheckpointId)).size, 1);
    assert.equal(new Set(at.map(({ sandbox }) => sandbox.sandboxID)).size, 6);
    await removeAll(cluster);
  }, prepare));

  it("a patch runs in what another node forks right after it was added, and not after it was deleted", withCluster(3, async (cluster) => {
    const [first, , third] = cluster.nodes;
    const { body: { checkpointId } } = await make(first, "patched");
    const at = `/api/sandboxes/checkpoints/${checkpointId}/patches`;
    const forked = async (node) => {
      const { status, body } = await node.call("POST", `/api/sandboxes/from-checkpoint/${checkpointId}`, {});
      assert.equal(status, 201, JSON.stringify(body));
      const ran = await node.call("POST", `/api/sandboxes/${body.sandboxID}/exec/run`, { cmd: "get" });
      await node.call("DELETE", `/api/sandboxes/${body.sandboxID}`);
      return Number(ran.body.stdout);
    };
    const untouched = await forked(third);
    for (let turn = 1; turn <= 12; turn++) {
      const { status, body } = await first.call("POST", at, { script: `set ${1000 + turn}` });
      assert.equal(status, 201, JSON.stringify(body));
      assert.equal(await forked(third), 1000 + turn, `turn ${turn}`);
      assert.equal((await first.call("DELETE", `${at}/${body.patch.id}`)).status, 204);
      assert.equal(await forked(third), untouched, `turn ${turn}, deleted`);
    }
    await removeAll(cluster);
  }, prepare));

  it("a build whose node is killed leaves a name that can be used again", withCluster(3, async (cluster) => {
    const names = Array.from({ length: 6 }, (_, i) => `lost-${i}`);
    const building = names.map((name) => make(cluster.nodes[0], name).catch(() => ({})));
    const seen = await eventually("a build is under way", async () => {
      const { body } = await cluster.nodes[1].call("GET", "/api/snapshots");
      return body.length > 0 && body;
    });
    await cluster.nodes[0].stop("SIGKILL");
    await Promise.all(building);
    for (const { name } of seen) {
      let told;
      await eventually(`${name} is free, or stands for a whole image`, async () => {
        const reply = await make(cluster.nodes[1], name);
        const { body } = await cluster.nodes[2].call("GET", `/api/snapshots/${name}`);
        told = JSON.stringify([reply.status, reply.body, body]);
        return reply.status === 201 || (reply.status === 409 && body.status === "ready");
      }).catch((error) => assert.fail(`${error.message}: ${told}`));
    }
    let last;
    await eventually("nothing is half", async () => {
      last = (await cluster.nodes[2].call("GET", "/api/snapshots")).body;
      return last.every(({ status, checkpointId }) => (status === "ready") === Boolean(checkpointId) && status !== "building");
    }).catch((error) => assert.fail(`${error.message}: ${JSON.stringify(last)}`));
    const box = await create(cluster.nodes[2], { snapshot: last.find(({ status }) => status === "ready").name, memoryMB: undefined });
    assert.ok(box);
    await removeAll(cluster);
  }, prepare));
});
