// Patches of checkpoints (contract tests 61 to 64): scripts that run in what was forked from a checkpoint,
// before anybody uses it, on every way to a wake.
import assert from "node:assert/strict";
import { request } from "node:http";
import { randomUUID } from "node:crypto";
import { afterEach, describe, test } from "node:test";
import * as sdk from "@opencomputer/sdk/node";
import {
  adopt, apiKey, apiUrl, assertRefused, call, cleanUp, createBox, forkBox, getBox, long, origin, Sandbox, sh,
  suite, takeTurn, template, waitReady, waitStatus,
} from "./lib/shoal.mjs";

await takeTurn();

const keys = { apiKey, apiUrl };
const LOG = "/root/patches";
const slow = { skip: long ? false : "takes long: set SHOAL_TEST_LONG" };

/** What the patches of a checkpoint left in a sandbox. */
const log = (box) => sh(box, `cat ${LOG} 2>/dev/null || true`);

/** Patches of one checkpoint, with the SDK. */
const patchesOf = (id) => ({
  add: async (script, description) =>
    (await Sandbox.createCheckpointPatch(id, { ...keys, script, description })).patch,
  list: () => Sandbox.listCheckpointPatches(id, keys),
  remove: (patch) => Sandbox.deleteCheckpointPatch(id, patch.id, keys),
  sequences: async () => (await Sandbox.listCheckpointPatches(id, keys)).map(({ sequence }) => sequence),
});

async function checkpointed() {
  const box = await createBox();
  const { id } = await box.createCheckpoint("patched");
  await waitReady(box, id);
  return { box, id, patches: patchesOf(id) };
}

/** Any answer of the sandbox's preview host, which wakes it. */
function askPreview(box) {
  const at = new URL(origin);
  const host = `${box.sandboxId}-p9.${box.domain.replace(/^[^.]*\./, "")}`;
  return new Promise((resolve, reject) => {
    request({ host: at.hostname, port: at.port || 80, path: "/", headers: { Host: host } }, (answer) => {
      answer.resume();
      answer.on("end", () => resolve(answer.statusCode));
    }).on("error", reject).end();
  });
}

describe("patches", suite, () => {
  afterEach(cleanUp);

  test("numbers, fields and order; no number is given twice", async () => {
    const { id, patches } = await checkpointed();
    const first = await patches.add("true", "why");
    assert.deepEqual(Object.keys(first).sort(),
      ["checkpointId", "createdAt", "description", "id", "script", "sequence", "strategy"]);
    assert.equal(first.checkpointId, id);
    assert.equal(first.strategy, "on_wake");
    assert.deepEqual([first.script, first.description, first.sequence], ["true", "why", 1]);
    assert.ok(!Number.isNaN(Date.parse(first.createdAt)), first.createdAt);
    const second = await patches.add("true");
    const third = await patches.add("true");
    assert.deepEqual([second.sequence, third.sequence], [2, 3]);
    await patches.remove(second);
    await patches.remove(third);
    await patches.remove(third); // the SDK takes the 404 for done
    assert.equal((await patches.add("true")).sequence, 4, "neither 2 nor 3");
    assert.deepEqual(await patches.sequences(), [1, 4]);
    assert.deepEqual((await patches.list())[0], first);

    const at = `/sandboxes/checkpoints/${id}/patches`;
    assertRefused(await call("POST", at, { body: {} }), 400, /script is required/);
    assertRefused(await call("POST", at, { body: { script: 7 } }), 400);
    assertRefused(await call("POST", at, { body: "{" }), 400);
    assertRefused(await call("POST", at, { body: { script: "x".repeat(40_000) } }), 400, /maximum/);
    assertRefused(await call("DELETE", `${at}/${randomUUID()}`), 404);
    assertRefused(await call("POST", "/sandboxes/checkpoints/cp-abc123/patches", { body: { script: "true" } }), 400);
    assertRefused(await call("POST", `/sandboxes/checkpoints/${randomUUID()}/patches`, { body: { script: "true" } }), 404);
    assertRefused(await call("GET", at, { key: false }), 401);
  });

  test("they run as root before a fork is answered and at the next wake of an older fork, in order, each once", async () => {
    const { box, id, patches } = await checkpointed();
    const early = await forkBox(id);
    await patches.add(`echo one:$(whoami):$PWD:$HOME >>${LOG}`);
    await patches.add(`echo two:$MARK >>${LOG}`);
    const late = await forkBox(id, { envs: { MARK: "of the fork" } });
    assert.equal(await log(late), "one:root:/home/sandbox:/root\ntwo:of the fork\n", "before it was answered");
    assert.equal(await log(box), "", "not in what the checkpoint is of");
    assert.equal(await log(early), "", "not in what runs");
    await early.hibernate();
    await early.wake();
    const both = "one:root:/home/sandbox:/root\ntwo:\n";
    assert.equal(await log(early), both);
    await early.hibernate();
    await early.wake();
    assert.equal(await log(early), both, "each once");
    await box.hibernate();
    await box.wake();
    assert.equal(await log(box), "");

    // a fork of a fork has what its disk has, and the patches of its own checkpoint
    const { id: next } = await late.createCheckpoint("next");
    await waitReady(late, next);
    await patchesOf(next).add(`echo next >>${LOG}`);
    await patches.add(`echo three >>${LOG}`);
    const child = await forkBox(next);
    assert.match(await log(child), /^one:.*\ntwo:.*\nnext\n$/);
  });

  test("every way to a wake runs those that are new", async () => {
    const { id, patches } = await checkpointed();
    const fork = await forkBox(id);
    const ways = {
      wake: () => fork.wake(),
      command: () => fork.exec.run("true"),
      file: () => fork.files.read("/etc/hostname"),
      terminal: () => call("POST", `/sandboxes/${fork.sandboxId}/pty`, { body: {} }),
      preview: () => askPreview(fork),
    };
    let wanted = "";
    for (const [name, way] of Object.entries(ways)) {
      await fork.hibernate();
      await patches.add(`echo ${name} >>${LOG}`);
      await way();
      await waitStatus(fork.sandboxId, "running");
      wanted += `${name}\n`;
      assert.equal(await log(fork), wanted);
    }
    // after an idle timeout
    await fork.setTimeout(1);
    await waitStatus(fork.sandboxId, "hibernated");
    await patches.add(`echo idle >>${LOG}`);
    assert.equal(await log(fork), `${wanted}idle\n`);
  });

  test("one that fails is told, holds back the later ones, and can be deleted", async () => {
    const { id, patches } = await checkpointed();
    await patches.add(`echo one >>${LOG}`);
    await patches.add(`echo two >>${LOG}`);
    const failing = await patches.add("echo it broke >&2; exit 3");
    await patches.add(`echo four >>${LOG}`);
    const fork = await forkBox(id);
    assert.equal(await log(fork), "one\ntwo\n");
    const told = await getBox(fork.sandboxId);
    assert.equal(told.status, "running");
    assert.match(told.patchError, /patch 3.*exit 3.*it broke/);
    await fork.hibernate();
    await fork.wake();
    assert.equal(await log(fork), "one\ntwo\n", "tried again, and still held back");
    assert.match((await getBox(fork.sandboxId)).patchError, /patch 3/);
    await patches.remove(failing);
    assert.deepEqual(await patches.sequences(), [1, 2, 4]);
    await fork.hibernate();
    assert.equal(await log(fork), "one\ntwo\nfour\n");
    assert.equal((await getBox(fork.sandboxId)).patchError, undefined);
  });

  test("a restore in place and a reboot run none", slow, async () => {
    const { id, patches } = await checkpointed();
    const fork = await forkBox(id);
    const { id: own } = await fork.createCheckpoint("own");
    await waitReady(fork, own);
    await patches.add(`echo one >>${LOG}`);
    await fork.restoreCheckpoint(own);
    assert.equal(await log(fork), "");
    await fork.reboot();
    assert.equal(await log(fork), "");
    await fork.hibernate();
    assert.equal(await log(fork), "one\n");
  });

  test("what is created from a snapshot runs the patches of its checkpoint", slow, async () => {
    const name = `patched-${randomUUID().slice(0, 8)}`;
    const snapshots = new sdk.Snapshots(keys);
    const image = new sdk.Image({ ...sdk.Image.base().toJSON(), base: template, runtimeMemoryMB: 1024 })
      .builderMemory(1024).runCommands(`echo ${name}`);
    const { checkpointId } = await snapshots.create({ name, image });
    await patchesOf(checkpointId).add(`echo ${name} >>${LOG}`);
    const box = await Sandbox.create({ ...keys, snapshot: name, timeout: 600 });
    adopt(box.sandboxId);
    assert.equal(await log(box), `${name}\n`);
    await snapshots.delete(name);
  });

  test("one may install packages", slow, async () => {
    const { id, patches } = await checkpointed();
    await patches.add("apt-get update -qq && apt-get install -y -qq less && echo installed >/root/state");
    const fork = await forkBox(id);
    assert.equal((await getBox(fork.sandboxId)).patchError, undefined);
    assert.equal(await sh(fork, "cat /root/state"), "installed\n");
    assert.match(await sh(fork, "less --version"), /^less \d/);
  });
});
