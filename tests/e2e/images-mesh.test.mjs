// Images and snapshots on three nodes with real sandboxes (SHOAL_NODES=3: scripts/up --nodes 3 brought up the
// node of SHOAL_URL): what one node built every other serves, and nothing is built twice or by halves.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { afterEach, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import * as sdk from "@opencomputer/sdk/node";
import { adopt, apiKey, cleanUp, eventually, noNode, origin, Sandbox, sh, suite, takeTurn, template } from "./lib/shoal.mjs";

const count = Number(process.env.SHOAL_NODES ?? 0);
const skip = noNode || (count >= 3 ? false : "SHOAL_NODES is not 3");
if (!skip) await takeTurn({ alone: true });

const script = fileURLToPath(new URL("../../scripts/node", import.meta.url));
const run = promisify(execFile);
const port = Number(new URL(origin || "http://localhost:8080").port);
const nodes = [1, 2, 3].map((index) => ({ index, name: `node-${index}`, apiUrl: `http://localhost:${port + index - 1}` }));
const keysOf = (node) => ({ apiKey, apiUrl: node.apiUrl });
const snapshotsOf = (node) => new sdk.Snapshots(keysOf(node));
const unique = (name) => `${name}-${randomUUID().slice(0, 8)}`;
const image = () =>
  new sdk.Image({ ...sdk.Image.base().toJSON(), base: template, runtimeMemoryMB: 1024 }).builderMemory(1024);

async function get(node, path) {
  const response = await fetch(`${node.apiUrl}/api${path}`, { headers: { "X-API-Key": apiKey }, signal: AbortSignal.timeout(60_000) });
  return { status: response.status, body: await response.json().catch(() => null) };
}

/** A sandbox through @node, and what the build said. */
async function create(node, options) {
  const lines = [];
  const box = await Sandbox.create({ ...keysOf(node), timeout: 600, ...options, onBuildLog: (line) => lines.push(line) });
  adopt(box.sandboxId);
  return { box, lines };
}

const built = (lines) => lines.some((line) => /Step \d+\/\d+/.test(line));
const where = async (box) => (await get(nodes[0], `/sandboxes/${box.sandboxId}`)).body.workerID;

async function timed(what) {
  const from = process.hrtime.bigint();
  const value = await what();
  return [value, Number(process.hrtime.bigint() - from) / 1e6];
}

describe("images on three nodes", { ...suite, skip }, () => {
  afterEach(cleanUp);

  test("built through node 1, found by nodes 2 and 3: as an image, as a snapshot, with a patch of a moment ago", async (t) => {
    const mark = unique("mark");
    const content = image().runCommands("sleep 5", `echo ${mark} >/home/sandbox/mark`).env({ MARK: mark }).workdir("/opt/app");
    const [first, cold] = await timed(() => create(nodes[0], { image: content }));
    assert.ok(built(first.lines), first.lines.join("\n"));
    assert.equal(await sh(first.box, "cat /home/sandbox/mark; echo $MARK; pwd"), `${mark}\n${mark}\n/opt/app\n`);
    for (const node of nodes.slice(1)) {
      const [{ box, lines }, warm] = await timed(() => create(node, { image: content }));
      assert.ok(lines.some((line) => /found in cache/.test(line)), lines.join("\n"));
      assert.ok(!built(lines), lines.join("\n"));
      assert.equal(await sh(box, "cat /home/sandbox/mark; echo $MARK; pwd"), `${mark}\n${mark}\n/opt/app\n`);
      t.diagnostic(`build ${Math.round(cold)} ms, through ${node.name} ${Math.round(warm)} ms on ${await where(box)}: ${(cold / warm).toFixed(1)} times faster`);
    }
    await cleanUp();

    const name = unique("snap");
    const [made] = await timed(() => snapshotsOf(nodes[1]).create({ name, image: content, onBuildLogs: (line) => assert.ok(!built([line]), line) }));
    assert.equal(made.status, "ready");
    const seen = new Set();
    for (const node of nodes) {
      assert.equal((await snapshotsOf(node).get(name)).checkpointId, made.checkpointId);
      const [{ box, lines }, warm] = await timed(() => create(node, { snapshot: name }));
      assert.ok(!built(lines), lines.join("\n"));
      assert.equal(await sh(box, "cat /home/sandbox/mark"), `${mark}\n`);
      seen.add(await where(box));
      t.diagnostic(`snapshot through ${node.name}: ${Math.round(warm)} ms on ${await where(box)}`);
    }
    await cleanUp();
    t.diagnostic(`sandboxes of the snapshot ran on ${[...seen].join(", ")}`);

    for (let turn = 1; turn <= 2; turn++) {
      const { patch } = await Sandbox.createCheckpointPatch(made.checkpointId, { ...keysOf(nodes[0]), script: `echo ${turn} >>/root/log` });
      const fork = await Sandbox.createFromCheckpoint(made.checkpointId, { ...keysOf(nodes[2]), timeout: 600 });
      adopt(fork.sandboxId);
      assert.equal(patch.sequence, turn);
      assert.equal(await sh(fork, "cat /root/log"), turn === 1 ? "1\n" : "1\n2\n");
      await fork.kill();
    }
    await snapshotsOf(nodes[2]).delete(name);
    for (const node of nodes) await assert.rejects(snapshotsOf(node).get(name), /404/);
  });

  test("each node runs the snapshot that node 1 built, when the others take nothing", async (t) => {
    const name = unique("everywhere");
    await snapshotsOf(nodes[0]).create({ name, image: image().runCommands(`echo ${name} >/home/sandbox/mark`) });
    const mark = (node, what) => fetch(`${nodes[0].apiUrl}/api/nodes/${node.name}/${what}`, { method: "POST", headers: { "X-API-Key": apiKey } });
    // A node refuses by the marks it knows itself: a moment after they were set all of them do.
    const known = async (by, open) => (await get(by, "/cluster")).body.nodes.every(
      (one) => (one.mark === "cordoned") === (one.name !== open.name));
    try {
      for (const node of nodes) {
        for (const other of nodes) assert.equal((await mark(other, other === node ? "uncordon" : "cordon")).status, 200);
        for (const by of nodes) await eventually("the marks are known", () => known(by, node));
        const [{ box, lines }, ms] = await timed(() => create(node, { snapshot: name }));
        assert.ok(!built(lines), lines.join("\n"));
        assert.equal(await where(box), node.name);
        assert.equal(await sh(box, "cat /home/sandbox/mark"), `${name}\n`);
        t.diagnostic(`on ${node.name}: ${Math.round(ms)} ms`);
        await box.kill();
      }
    } finally {
      for (const node of nodes) await mark(node, "uncordon");
    }
    await snapshotsOf(nodes[0]).delete(name);
  });

  test("ten requests at once on three nodes make one build", async () => {
    const mark = unique("ten");
    // Each request has its place before it is known that all ask for the same.
    const content = image().builderMemory(512).runCommands(`echo ${mark} $(cat /proc/sys/kernel/random/uuid) >/home/sandbox/mark`, "sleep 3");
    const made = await Promise.all(Array.from({ length: 10 }, (_, i) =>
      snapshotsOf(nodes[i % 3]).create({ name: `${mark}-${i}`, image: content })));
    assert.equal(new Set(made.map(({ checkpointId }) => checkpointId)).size, 1);
    const { body } = await get(nodes[2], "/snapshots");
    assert.equal(body.filter((one) => one.name.startsWith(mark) && one.status === "ready").length, 10);
    for (const [i, { name }] of made.entries()) await snapshotsOf(nodes[i % 3]).delete(name);
  });

  test("a build whose node is killed in the middle leaves nothing half, and can be repeated", async (t) => {
    const name = unique("killed");
    const content = image().runCommands("sleep 20", `echo ${name} >/home/sandbox/mark`);
    const lines = [];
    const first = snapshotsOf(nodes[1]).create({ name, image: content, onBuildLogs: (line) => lines.push(line) }).catch((error) => error);
    let failure;
    void first.then((answer) => { failure = answer instanceof Error ? answer.message : undefined; });
    const line = await eventually("the build has begun", () => {
      assert.equal(failure, undefined);
      return lines.find((one) => /node=/.test(one));
    });
    await eventually("its first step runs", () => built(lines));
    const builder = nodes.find((node) => line.includes(`node=${node.name}`));
    assert.ok(builder, line);
    const others = nodes.filter((node) => node !== builder);
    assert.equal((await snapshotsOf(others[0]).get(name)).status, "building");
    let again;
    try {
      await run(script, [String(builder.index), "kill"]);
      const answer = await first;
      t.diagnostic(`${builder.name} was killed while it built: ${answer instanceof Error ? answer.message : answer.status}`);
      await eventually("nothing is half", async () => {
        const { status, body } = await get(others[1], `/snapshots/${name}`);
        return status === 404 || body.status === "failed" || (body.status === "ready" && body.checkpointId);
      }, 180_000, 500);
      again = await eventually("it is built again", () =>
        snapshotsOf(others[0]).create({ name, image: content }).catch(() => null), 180_000, 1000);
      assert.equal(again.status, "ready");
      const { box } = await create(others[1], { snapshot: name });
      assert.equal(await sh(box, "cat /home/sandbox/mark"), `${name}\n`);
    } finally {
      await run(script, [String(builder.index), "start"], { timeout: 240_000 });
    }
    await eventually("the node is back and agrees", async () => {
      const { body } = await get(builder, `/snapshots/${name}`).catch(() => ({}));
      return body?.status === "ready" && body.checkpointId === again.checkpointId;
    }, 180_000, 500);
    assert.ok((await get(builder, "/sandboxes")).body.every((one) => !one.sandboxID.startsWith("sb-build")));
    await snapshotsOf(builder).delete(name);
  });
});
