// The daemon is killed at the worst moments: nothing that was promised is lost, everything
// answers again.
import assert from "node:assert/strict";
import { after, afterEach, describe, test } from "node:test";
import {
  call, cleanUp, createBox, eventually, forkBox, getBox, long, origin, sh, sleep, startCounter, suite, takeTurn, waitReady,
} from "./lib/shoal.mjs";
import { killDaemon, noMachine, startDaemon, vmmPid } from "./lib/node.mjs";

await takeTurn({ alone: true });

// From the request to the crash, in ms: in the lab a hibernation takes about a second.
const MOMENTS = long ? [0, 60, 150, 300, 600, 1200] : [0, 300];

async function restart() {
  await startDaemon();
  await eventually("the node answers", () =>
    fetch(`${origin}/healthz`, { signal: AbortSignal.timeout(3000) }).then((r) => r.ok, () => false));
}

/** Kill the daemon `ms` after `begin` has been called, then start it again. */
async function crashDuring(begin, ms) {
  const under = begin().catch((error) => error);
  await sleep(ms);
  await killDaemon();
  await under;
  await restart();
}

describe("crash", { ...suite, skip: noMachine }, () => {
  after(startDaemon);
  afterEach(cleanUp);

  /** A sandbox with a file, and a process that counts. */
  async function makeBox() {
    const box = await createBox();
    const counter = await startCounter(box);
    await box.files.write("/home/sandbox/kept", "x".repeat(100_000));
    return { box, counter };
  }

  /** It answers, its files and its process are there, and it can hibernate and wake. */
  async function assertWhole({ box, counter }, what) {
    const { status } = await getBox(box.sandboxId);
    assert.ok(["running", "hibernated"].includes(status), `${what}: ${status}`);
    assert.equal((await box.files.read("/home/sandbox/kept")).length, 100_000, what);
    await counter.goesOn();
    await box.hibernate();
    assert.equal(await vmmPid(box.sandboxId), 0, what);
    await counter.goesOn();
  }

  test("while one is hibernated", async () => {
    const made = await makeBox();
    await made.box.hibernate();
    await killDaemon();
    await restart();
    assert.equal((await getBox(made.box.sandboxId)).status, "hibernated");
    await assertWhole(made, "hibernated");
  });

  test("while one hibernates", async () => {
    const made = await makeBox();
    for (const ms of MOMENTS) {
      await crashDuring(() => made.box.hibernate(), ms);
      await assertWhole(made, `hibernating, ${ms} ms`);
    }
  });

  test("while one wakes", async () => {
    const made = await makeBox();
    for (const ms of MOMENTS) {
      await made.box.hibernate();
      await crashDuring(() => made.box.wake({ timeout: 600 }), ms);
      await assertWhole(made, `waking, ${ms} ms`);
    }
  });

  test("while a checkpoint is made", async () => {
    const made = await makeBox();
    let number = 0;
    for (const ms of MOMENTS) {
      const name = `c${number++}`;
      await crashDuring(() => made.box.createCheckpoint(name), ms);
      const settled = await eventually("the checkpoint is settled", async () => {
        const found = (await made.box.listCheckpoints()).find((one) => one.name === name);
        return !found || found.status !== "processing" ? (found ?? {}) : null;
      });
      if (settled.status === "ready") {
        const fork = await forkBox(settled.id);
        assert.equal((await fork.files.read("/home/sandbox/kept")).length, 100_000);
        await made.counter.goesOn(fork);
        await fork.kill();
      } else if (settled.status) {
        assert.equal(settled.status, "failed");
        const reply = await call("POST", `/sandboxes/from-checkpoint/${settled.id}`, { body: {} });
        assert.equal(reply.status, 400, "a failed one is not forked");
      }
      await assertWhole(made, `checkpoint, ${ms} ms`);
    }
  });

  test("while forks are made", async () => {
    const made = await makeBox();
    const { id } = await made.box.createCheckpoint("source");
    await waitReady(made.box, id); // one that is still processing is lost with the daemon, and says so
    for (const ms of long ? [100, 700] : [300]) {
      const known = (await call("GET", "/sandboxes")).json.map((one) => one.sandboxID);
      await crashDuring(() => call("POST", `/sandboxes/from-checkpoint/${id}`, { body: { count: 4, timeout: 600 } }), ms);
      await eventually("all new records are settled", async () => {
        for (const one of (await call("GET", "/sandboxes")).json) {
          if (known.includes(one.sandboxID)) continue;
          const run = await call("POST", `/sandboxes/${one.sandboxID}/exec/run`, { body: { cmd: "true" } });
          if (run.status !== 200) return false;
          await call("DELETE", `/sandboxes/${one.sandboxID}`);
        }
        return true;
      });
      const fork = await forkBox(id);
      await made.counter.goesOn(fork);
      await fork.kill();
      await assertWhole(made, `forks, ${ms} ms`);
    }
  });
});
