// Many hibernations and checkpoints in a row, and the clock after them.
import assert from "node:assert/strict";
import { afterEach, describe, test } from "node:test";
import {
  cleanUp, createBox, forkBox, long, sh, sleep, startCounter, suite, takeTurn, waitReady,
} from "./lib/shoal.mjs";
import { aroundOnNode, noMachine } from "./lib/node.mjs";

await takeTurn();

const TURNS = long ? 10 : 4;
const CLOCK_ERROR_MAX_S = 0.5;

/** Every file of the turns so far has its content; all of them are checked. */
async function assertFiles(box, turns) {
  const wanted = Array.from({ length: turns }, (_, i) => `${i}`.repeat(5000));
  const seen = await Promise.all(wanted.map((_, i) => box.files.read(`/home/sandbox/turn${i}`)));
  assert.deepEqual(seen.map((text) => text.length), wanted.map((text) => text.length));
  assert.deepEqual(seen, wanted);
}

describe("chains", suite, () => {
  afterEach(cleanUp);

  test(`${TURNS} times hibernated and woken: one process, all files`, async () => {
    const box = await createBox();
    const counter = await startCounter(box);
    let count = await counter.read();
    for (let i = 0; i < TURNS; i++) {
      await box.files.write(`/home/sandbox/turn${i}`, `${i}`.repeat(5000));
      await sh(box, `head -c 3000000 /dev/urandom >/dev/shm/memory${i % 3}; sha256sum /dev/shm/memory* >sums`);
      await box.hibernate();
      await box.wake({ timeout: 600 });
      await sh(box, `kill -0 ${counter.pid}; sha256sum -c --quiet sums`);
      await counter.goesOn();
      const now = await counter.read();
      assert.ok(now > count, `turn ${i}: ${count}, then ${now}`);
      count = now;
      await assertFiles(box, i + 1);
    }
  });

  test(`${TURNS} checkpoints in a row, each of a fork of the one before`, async () => {
    let box = await createBox();
    const counter = await startCounter(box);
    let count = await counter.read();
    const made = [];
    for (let i = 0; i < TURNS; i++) {
      await box.files.write(`/home/sandbox/turn${i}`, `${i}`.repeat(5000));
      await sh(box, `head -c 3000000 /dev/urandom >/dev/shm/memory${i % 3}; sha256sum /dev/shm/memory* >sums`);
      const { id } = await box.createCheckpoint(`turn${i}`);
      made.push({ box, id });
      const next = await forkBox(id);
      await box.kill();
      box = next;
      await sh(box, `kill -0 ${counter.pid}; sha256sum -c --quiet sums`);
      await counter.goesOn(box);
      const now = await counter.read(box);
      assert.ok(now > count, `turn ${i}: ${count}, then ${now}`);
      count = now;
      await assertFiles(box, i + 1);
    }
    // The oldest ones can go and the youngest does not notice; one in the middle still forks.
    const half = TURNS / 2;
    for (const one of made.slice(0, half - 1)) {
      await waitReady(one.box, one.id);
      await one.box.deleteCheckpoint(one.id);
    }
    await box.hibernate();
    await assertFiles(box, TURNS);
    const middle = await forkBox(made[half].id);
    await assertFiles(middle, half + 1);
    assert.equal(await middle.files.exists(`/home/sandbox/turn${half + 1}`), false);
    await sh(middle, "sha256sum -c --quiet sums");
  });

  test(`${TURNS} checkpoints and restores of one sandbox, between hibernations`, async () => {
    const box = await createBox();
    const counter = await startCounter(box);
    for (let i = 0; i < (long ? 3 : 2); i++) {
      await box.files.write(`/home/sandbox/turn${i}`, `${i}`.repeat(5000));
      const { id } = await box.createCheckpoint(`turn${i}`);
      await waitReady(box, id);
      await box.files.write("/home/sandbox/stray", "x");
      await box.hibernate();
      await box.wake({ timeout: 600 });
      await box.restoreCheckpoint(id);
      assert.equal(await box.files.exists("/home/sandbox/stray"), false);
      await counter.goesOn();
      await assertFiles(box, i + 1);
    }
  });

  test("the clock is right after a hibernation and in a fork", { skip: noMachine }, async () => {
    const box = await createBox();
    // Node and guest are asked through the same machine; what the call takes is no error.
    const assertClock = async (of, what) => {
      const { before, value, after } = await aroundOnNode(() => sh(of, "date +%s.%N"));
      const guest = Number(value);
      assert.ok(
        guest > before - CLOCK_ERROR_MAX_S && guest < after + CLOCK_ERROR_MAX_S,
        `${what}: the guest says ${guest}, the node ${before} to ${after}`,
      );
    };
    await assertClock(box, "before");
    const { id } = await box.createCheckpoint("clock");
    await box.hibernate();
    await sleep(long ? 60_000 : 5_000);
    await box.wake({ timeout: 600 });
    await assertClock(box, "after a hibernation");
    await assertClock(await forkBox(id), "in a fork");
    await waitReady(box, id);
    await box.restoreCheckpoint(id);
    await assertClock(box, "after a restore");
    // Time that passed does not count for a timer of the guest that runs on its own clock, and
    // the clock that only goes forward has not gone back.
    const up = (await sh(box, "cut -d' ' -f1 /proc/uptime; sleep 1; cut -d' ' -f1 /proc/uptime")).split("\n");
    assert.ok(Number(up[1]) - Number(up[0]) >= 0.9, up.join(" "));
  });
});
