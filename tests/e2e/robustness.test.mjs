// A guest that misbehaves ends its own sandbox and nothing else.
import assert from "node:assert/strict";
import { afterEach, describe, test } from "node:test";
import {
  call, cleanUp, createBox, eventually, getBox, sh, suite, takeTurn, waitStatus,
} from "./lib/shoal.mjs";

await takeTurn();

describe("robustness", suite, () => {
  afterEach(cleanUp);

  test("PID 1 of the guest cannot be killed from inside", async () => {
    const box = await createBox();
    await box.exec.run("sudo kill -9 1; sudo kill -TERM 1; sudo kill -SEGV 1; kill -9 1");
    await sh(box, "test -d /proc/1");
    assert.equal((await getBox(box.sandboxId)).status, "running");
  });

  test("kill -9 of everything spares the agent", async () => {
    const box = await createBox();
    await box.exec.run("sudo kill -9 -1", { timeout: 30 }).catch(() => {});
    assert.equal(await sh(box, "echo still here"), "still here\n");
  });

  test("a kernel panic ends in status error with a reason; the neighbour runs on", async () => {
    const [box, neighbour] = [await createBox(), await createBox()];
    const dying = box.exec
      .run("sudo sh -c 'echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger'", { timeout: 60 })
      .then((out) => `exit code ${out.exitCode}`, (error) => error.message);
    const ended = await waitStatus(box.sandboxId, "error");
    assert.match(ended.reason ?? "", /panic/i);
    assert.ok(await dying, "the call in flight is answered");
    const reply = await call("POST", `/sandboxes/${box.sandboxId}/exec/run`, { body: { cmd: "true" } });
    assert.equal(reply.status, 410, reply.text);
    assert.equal(await box.isRunning(), false);
    assert.equal(await sh(neighbour, "echo fine"), "fine\n");
    await box.kill();
  });

  test("a guest that powers itself off does not stay running", async () => {
    const box = await createBox();
    await box.exec.run("sudo sh -c 'echo 1 >/proc/sys/kernel/sysrq; echo o >/proc/sysrq-trigger'", { timeout: 30 }).catch(() => {});
    const ended = await eventually("it ends", async () => {
      const info = await getBox(box.sandboxId);
      return info.status === "running" ? null : info;
    });
    assert.ok(["stopped", "error"].includes(ended.status), ended.status);
    assert.ok(ended.reason?.length > 0, "the reason is said");
  });

  test("a full disk gives errors, and the sandbox keeps answering", async () => {
    const box = await createBox();
    // A small file system of its own: filling 20 GiB would take the lab too long.
    await sh(box, "sudo mkdir /small && sudo mount -t tmpfs -o size=4m tmpfs /small && sudo chmod 777 /small");
    const full = await box.exec.run("head -c 20000000 /dev/zero >/small/fill");
    assert.notEqual(full.exitCode, 0);
    assert.match(full.stderr, /[Nn]o space left/);
    const reply = await call("PUT", `/sandboxes/${box.sandboxId}/files?path=/small/more`, { body: new Uint8Array(1 << 20) });
    assert.ok([500, 507].includes(reply.status), `${reply.status} ${reply.text}`);
    assert.equal(typeof reply.json?.error, "string");
    assert.equal(await sh(box, "rm /small/fill; echo ok"), "ok\n");
    await box.files.write("/small/more", "fits");
    assert.equal(await box.files.read("/small/more"), "fits");
  });

  test("the root file system without inodes or blocks left keeps answering", async () => {
    const box = await createBox();
    // Reserve nearly everything at once, then write over the rest.
    const out = await box.exec.run(
      "sudo sh -c 'fallocate -l $(($(df -B1 --output=avail / | tail -n 1) - 4000000)) /fill; head -c 60000000 /dev/zero >/fill2'",
      { timeout: 300 },
    );
    assert.notEqual(out.exitCode, 0, "the disk was never full");
    const reply = await call("PUT", `/sandboxes/${box.sandboxId}/files?path=/var/tmp/x`, { body: new Uint8Array(8 << 20) });
    assert.ok([204, 500, 507].includes(reply.status), `${reply.status} ${reply.text}`);
    assert.equal(await sh(box, "echo answering"), "answering\n");
    await sh(box, "sudo rm -f /fill /fill2");
    await box.files.write("/var/tmp/x", "again");
    assert.equal(await box.files.read("/var/tmp/x"), "again");
  });

  test("a guest out of memory loses the culprit, not the agent", async () => {
    const box = await createBox({ memoryMB: 512 });
    // Two buffers that do not fit, filled at once: one that grows drives all caches out first, for minutes.
    const out = await box.exec.run(
      "dd if=/dev/zero bs=300M count=1 status=none | dd bs=300M iflag=fullblock status=none | wc -c", { timeout: 120 });
    assert.notEqual(out.stdout.trim(), `${300 << 20}`);
    assert.equal(await sh(box, "echo alive"), "alive\n");
  });

  test("a fork bomb below the limit does not stop the agent from answering", async () => {
    const box = await createBox();
    await box.exec.run("for i in $(seq 150); do sleep 60 & done; true", { timeout: 60 });
    assert.equal(await sh(box, "echo alive"), "alive\n");
    await sh(box, "pkill -x sleep || true");
  });

  test("nonsense on the serial console and in kernel messages harms nothing", async () => {
    const box = await createBox();
    await sh(box, "sudo sh -c 'head -c 20000 /dev/urandom >/dev/ttyS0; echo \"Kernel panic - not syncing: fake\" >/dev/kmsg' || true");
    assert.equal(await sh(box, "echo alive"), "alive\n");
    assert.equal((await getBox(box.sandboxId)).status, "running");
  });
});
