// Sandboxes of all sizes come from one warm template: each has exactly what was asked for.
import assert from "node:assert/strict";
import { afterEach, describe, test } from "node:test";
import { assertRefused, call, cleanUp, createBox, getBox, long, sh, suite, takeTurn } from "./lib/shoal.mjs";

await takeTurn();

// The kernel keeps a part for itself: of the memory the template was started with.
const KERNEL_MIB_MAX = 96;

async function assertSize(box, { cpuCount, memoryMB, diskMB }, when) {
  const info = await getBox(box.sandboxId);
  assert.deepEqual([info.cpuCount, info.memoryMB, info.diskMB], [cpuCount, memoryMB, diskMB], when);
  assert.equal((await sh(box, "nproc")).trim(), String(cpuCount), `${when}: nproc`);
  assert.equal((await sh(box, "grep -c ^processor /proc/cpuinfo")).trim(), String(cpuCount), when);
  const memory = Number(await sh(box, "awk '/^MemTotal/ {print int($2 / 1024)}' /proc/meminfo"));
  assert.ok(memory <= memoryMB && memory >= memoryMB - KERNEL_MIB_MAX, `${when}: MemTotal ${memory} of ${memoryMB} MiB`);
  const disk = Number(await sh(box, "df -m / | awk 'NR == 2 {print $2}'"));
  assert.ok(disk <= diskMB && disk > diskMB * 0.93, `${when}: ${disk} of ${diskMB} MiB`);
}

describe("sizes", suite, () => {
  afterEach(cleanUp);

  for (const size of [
    { cpuCount: 1, memoryMB: 512, diskMB: 20480 },
    { cpuCount: 2, memoryMB: 1024, diskMB: 20480 },
    { cpuCount: 3, memoryMB: 1536, diskMB: 30720 },
    { cpuCount: 4, memoryMB: 3072, diskMB: 40960 },
  ]) {
    const skip = size.cpuCount === 3 && !long ? "takes long: set SHOAL_TEST_LONG" : false;
    test(`${size.cpuCount} processors, ${size.memoryMB} MiB, ${size.diskMB} MiB of disk`, { skip }, async () => {
      const box = await createBox(size, "created");
      await assertSize(box, size, "created");
      // What is there can be used: more than a template of 512 MiB would have. Once, since each
      // page costs in an emulated machine.
      if (size.memoryMB === 1536) {
        await sh(box, "head -c 500M /dev/zero >/dev/shm/big && test $(stat -c %s /dev/shm/big) = 524288000; rm /dev/shm/big", { timeout: 300 });
      }
      await sh(box, "touch /home/sandbox/mark");
      await box.hibernate();
      await assertSize(box, size, "woken");
      await sh(box, "test -e /home/sandbox/mark");
    });
  }

  test("sizes between and beyond", async () => {
    const box = await createBox({ memoryMB: 777, diskMB: 20481 }, "created");
    const info = await getBox(box.sandboxId);
    assert.deepEqual([info.memoryMB, info.diskMB], [777, 20481]);
    const memory = Number(await sh(box, "awk '/^MemTotal/ {print int($2 / 1024)}' /proc/meminfo"));
    assert.ok(memory <= 784 && memory >= 777 - KERNEL_MIB_MAX, `MemTotal ${memory} MiB`);
    for (const body of [{ memoryMB: 511 }, { memoryMB: 16385 }, { cpuCount: 5 }, { cpuCount: 0 }, { diskMB: 20479 }, { diskMB: 262145 }]) {
      assertRefused(await call("POST", "/sandboxes", { body }), 400);
    }
  });
});
