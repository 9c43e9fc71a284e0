// VMs outlive the daemon; a VMM that dies leaves nothing behind.
import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import {
  call, cleanUp, createBox, eventually, getBox, origin, sh, sleep, suite, takeTurn, waitStatus,
} from "./lib/shoal.mjs";
import { holdings, killDaemon, leftovers, noMachine, onNode, startDaemon, vmmPid } from "./lib/node.mjs";

await takeTurn({ alone: true });

const answers = () =>
  eventually("the node answers", () =>
    fetch(`${origin}/healthz`, { signal: AbortSignal.timeout(3000) }).then((r) => r.ok, () => false));

/** Fails with what is left when a sandbox is not gone within half a minute. */
async function assertGone(id, held) {
  let rest = [];
  for (let turn = 0; turn < 15; turn++) {
    rest = await leftovers(id, held);
    if (rest.length === 0) return;
    await sleep(2000);
  }
  assert.deepEqual(rest, [], `left of ${id}`);
}

describe("restart", { ...suite, skip: noMachine }, () => {
  after(async () => {
    await startDaemon();
    await cleanUp();
  });

  test("kill -9 of the daemon: sandboxes run on, are adopted, results are kept", async () => {
    const boxes = [await createBox({ metadata: { n: "0" } }), await createBox({ metadata: { n: "1" } })];
    const pids = await Promise.all(boxes.map((box) => vmmPid(box.sandboxId)));
    assert.ok(pids.every(Boolean), `VMM processes ${pids}`);
    await boxes[0].files.write("/tmp/before", "kept");
    await sh(boxes[0], "(i=0; while :; do i=$((i+1)); echo $i >/tmp/count; sleep 0.2; done) >/dev/null 2>&1 &");
    const started = await call("POST", `/sandboxes/${boxes[0].sandboxId}/exec/run-async`, {
      body: { cmd: "sleep 8; echo finished", timeout: 120 },
    });
    assert.equal(started.status, 202, started.text);
    const before = Number(await sh(boxes[0], "cat /tmp/count"));

    await killDaemon();
    await assert.rejects(fetch(`${origin}/healthz`, { signal: AbortSignal.timeout(3000) }));
    for (const pid of pids) await onNode(`test -d /proc/${pid}`);
    await startDaemon();
    await answers();

    for (const [i, box] of boxes.entries()) {
      const info = await getBox(box.sandboxId);
      assert.equal(info.status, "running");
      assert.deepEqual(info.metadata, { n: String(i) });
      assert.equal(await vmmPid(box.sandboxId), pids[i], "the same VMM");
      assert.equal(await sh(box, "echo alive"), "alive\n");
    }
    assert.equal(await boxes[0].files.read("/tmp/before"), "kept");
    assert.ok(Number(await sh(boxes[0], "cat /tmp/count")) > before, "its processes went on");
    const done = await eventually("the result of the command that ran meanwhile", async () => {
      const reply = await call("GET", `/sandboxes/${boxes[0].sandboxId}/exec/${started.json.execId}/result`);
      assert.equal(reply.status, 200, reply.text);
      return reply.json.running ? null : reply.json;
    });
    assert.deepEqual([done.exitCode, done.stdout], [0, "finished\n"]);
    const listed = (await call("GET", "/sandboxes")).json.map((one) => one.sandboxID);
    for (const box of boxes) assert.ok(listed.includes(box.sandboxId));
    // An adopted sandbox ends like any other.
    const held = await holdings(pids[0]);
    await boxes[0].kill();
    await assertGone(boxes[0].sandboxId, held);
  });

  test("a killed VMM: status error with a reason, nothing left behind", async () => {
    const [box, neighbour] = [await createBox(), await createBox()];
    const pid = await vmmPid(box.sandboxId);
    const held = await holdings(pid);
    assert.equal(held.taps.length, 1, JSON.stringify(held));
    assert.ok(held.dirs.length === 1, JSON.stringify(held));
    const alive = await leftovers(box.sandboxId, held);
    const seen = alive.join(", ");
    for (const what of [`process ${pid}`, `tap ${held.taps[0]}`, `dir ${held.dirs[0]}`]) {
      assert.ok(alive.includes(what), `the search finds what is there: ${what} in ${seen}`);
    }
    await onNode(`kill -9 ${pid}`);
    const ended = await waitStatus(box.sandboxId, "error");
    assert.ok(ended.reason?.length > 0, "the reason is said");
    await assertGone(box.sandboxId, held);
    for (const group of held.cgroups.filter((name) => name.includes(box.sandboxId))) {
      assert.equal((await onNode(`find /sys/fs/cgroup -path '*${group}' -print`)).trim(), "");
    }
    assert.equal(await sh(neighbour, "echo fine"), "fine\n");
    const reply = await call("POST", `/sandboxes/${box.sandboxId}/exec/run`, { body: { cmd: "true" } });
    assert.equal(reply.status, 410, reply.text);
  });

  test("a VMM that dies while the daemon is down is noticed at its start", async () => {
    const box = await createBox();
    const pid = await vmmPid(box.sandboxId);
    const held = await holdings(pid);
    await killDaemon();
    await onNode(`kill -9 ${pid}`);
    await startDaemon();
    await answers();
    const ended = await waitStatus(box.sandboxId, "error");
    assert.ok(ended.reason?.length > 0);
    await assertGone(box.sandboxId, held);
  });

  test("an ordinary kill leaves nothing behind either", async () => {
    const box = await createBox();
    const held = await holdings(await vmmPid(box.sandboxId));
    await box.kill();
    assert.deepEqual(await leftovers(box.sandboxId, held), []);
  });

  test("a daemon killed while creating: no half sandbox stays", async () => {
    const listed = (await call("GET", "/sandboxes")).json.map((one) => one.sandboxID);
    const creating = createBox().catch((error) => error);
    await eventually("a new VMM", async () =>
      (await onNode("pgrep -c -x shoal-vmm || true")).trim() > String(listed.length), 30_000, 50).catch(() => {});
    await killDaemon();
    await creating;
    await startDaemon();
    await answers();
    // Whatever became of it, it has a status that is true.
    await eventually("all new records are settled", async () => {
      const now = (await call("GET", "/sandboxes")).json.filter((one) => !listed.includes(one.sandboxID));
      for (const one of now) {
        if (one.status !== "running") continue;
        const run = await call("POST", `/sandboxes/${one.sandboxID}/exec/run`, { body: { cmd: "true" } });
        if (run.status !== 200) return false;
        await call("DELETE", `/sandboxes/${one.sandboxID}`);
      }
      return true;
    });
    const box = await createBox();
    assert.equal(await sh(box, "echo ok"), "ok\n");
  });
});
