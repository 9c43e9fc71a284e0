// A node with twenty sandboxes, half of them hibernated, is lost with its disk: three real daemons with
// fake-vmm, in a network namespace of their own. tests/e2e/loss.test.mjs does it with real guests.
import { describe, it } from "node:test";
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { eventually, suite, withCluster } from "./cluster.mjs";
import { create, inNamespace, inside, lose, prepare, removeAll } from "./fake.mjs";

const BOXES = 20;

inNamespace("loss of a node with its disk", import.meta.url);

async function exec(node, id, command) {
  const { status, body } = await node.call("POST", `/api/sandboxes/${id}/exec/run`, { cmd: "sh", args: ["-c", command] });
  return status === 200 && body.exitCode === 0 ? body.stdout.trim() : null;
}

const get = async (node, id) => (await node.call("GET", `/api/sandboxes/${id}`).catch(() => null))?.body;
const replicated = (node, id) => eventually(`${id} is on two nodes`, async () =>
  (await get(node, id))?.durability?.state === "replicated", 180_000, 100);

/** What the node has told of the sandbox's saves. */
const saves = (node, id) => node.events("checkpoint_ready").filter((event) => event.sandbox === id).length;

async function furnish(node, number) {
  const id = await create(node, { onNodeLoss: "restore", autosaveInterval: 10, timeout: 0 });
  const box = { id, was: number % 2 ? "running" : "hibernated", number: String(1000 + number) };
  assert.notEqual(await exec(node, id, `set ${box.number}`), null);
  assert.notEqual(await exec(node, id, `fill 1 ${number + 1}`), null);
  box.saves = saves(node, id);
  if (box.was === "hibernated") assert.equal((await node.call("POST", `/api/sandboxes/${id}/hibernate`)).status, 200);
  return box;
}

/** Its VMMs, of whichever node. */
function vmms(cluster, id) {
  const run = spawnSync("pgrep", ["-f", "-c", "--", `--dir ${cluster.dir}/[0-9]+/run/.*${id}`], { encoding: "utf8" });
  return Number(run.stdout);
}

/** What it would come back from has the number in it, and is on two nodes. */
async function isSafe(node, box) {
  if (box.was === "running") {
    await eventually(`${box.id} is saved twice more`, () => saves(node, box.id) >= box.saves + 2, 180_000, 250);
  }
  await replicated(node, box.id);
}

if (inside) describe("loss", suite, () => {
  it("all its sandboxes answer again under their ids, and are on two nodes again", withCluster(3, async (cluster, t) => {
    const [one, two, lost] = cluster.nodes;
    for (const node of [one, two]) await one.call("POST", `/api/nodes/${node.name}/cordon`);
    await eventually("the marks are known", async () =>
      (await lost.status())?.nodes.filter((node) => node.mark === "cordoned").length === 2);
    const boxes = [];
    while (boxes.length < BOXES) boxes.push(await furnish(lost, boxes.length));
    for (const box of boxes) assert.equal((await get(one, box.id)).status, box.was);
    for (const node of [one, two]) await one.call("POST", `/api/nodes/${node.name}/uncordon`);
    for (const box of boxes) await isSafe(lost, box);

    const began = Date.now();
    await lose(lost, ...boxes.map((box) => box.id));
    rmSync(join(lost.dir, "data"), { recursive: true });
    await Promise.all(boxes.map(async (box) => {
      box.got = await eventually(`${box.id} answers`, () => exec(one, box.id, "get").catch(() => null), 180_000, 100);
      box.answers = Date.now() - began;
    }));
    for (const box of boxes) assert.equal(box.got, box.number, `${box.id}, which was ${box.was}`);
    await eventually("its loss is known", async () =>
      (await one.status())?.nodes.find((node) => node.name === lost.name).state === "dead");
    await Promise.all(boxes.map(async (box) => {
      await replicated(one, box.id);
      box.repaired = Date.now() - began;
    }));
    t.diagnostic("sandbox       was          answers after   on two nodes again after");
    for (const box of boxes) t.diagnostic(`${box.id.padEnd(14)}${box.was.padEnd(13)}${`${box.answers} ms`.padEnd(16)}${box.repaired} ms`);
    for (const box of boxes) {
      for (const node of [one, two]) {
        await eventually(`${node.name} knows where ${box.id} is`, async () => {
          const now = await get(node, box.id);
          return now?.status === "running" && [one.name, two.name].includes(now.workerID);
        });
      }
      assert.equal(vmms(cluster, box.id), 1, `${box.id} runs once`);
    }
    await removeAll(cluster);
  }, (node) => {
    prepare(node);
    node.options[node.options.indexOf("--sandboxes-max") + 1] = "40";
    node.options.push("--memory-mb", "24000");
  }));
});
