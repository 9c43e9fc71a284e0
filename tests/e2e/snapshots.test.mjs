// Hibernate, wake, checkpoints, restore, forks of one sandbox (contract 3.6, 7, tests 53 to 60).
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { afterEach, describe, test } from "node:test";
import {
  adopt, apiKey, apiUrl, assertRefused, call, cleanUp, createBox, eventually, forkBox, getBox, long,
  Sandbox, sh, sleep, startCounter, suite, takeTurn, waitReady, waitStatus,
} from "./lib/shoal.mjs";
import { holdings, leftovers, noMachine, vmmPid } from "./lib/node.mjs";

await takeTurn();

const needsMachine = { skip: noMachine };
const post = (box, below, body) => call("POST", `/sandboxes/${box.sandboxId}${below}`, { body });
const identity = (box) => sh(box, "hostname; cat /etc/machine-id /proc/sys/kernel/random/boot_id");

describe("hibernate and wake", suite, () => {
  afterEach(cleanUp);

  test("processes, files, identity and settings are there after a wake", async () => {
    const envs = { KEPT: "a b" };
    const box = await createBox({ envs, metadata: { owner: "e2e" } });
    const counter = await startCounter(box);
    const text = "grüße ☃\n".repeat(1000);
    await box.files.write("/home/sandbox/kept", text);
    const before = await getBox(box.sandboxId);
    const who = await identity(box);
    const count = await counter.goesOn();

    const reply = await post(box, "/hibernate");
    assert.equal(reply.status, 200, reply.text);
    assert.equal(reply.json.status, "hibernated");
    assert.equal(reply.json.sandboxID, box.sandboxId);
    assert.equal(reply.json.sandboxId, box.sandboxId);
    assert.ok(reply.json.sizeBytes > 0, reply.text);
    const saved = await getBox(box.sandboxId);
    assert.equal(saved.status, "hibernated");
    assert.ok(!saved.workerID, "it is on no worker");
    assert.ok((await call("GET", "/sandboxes")).json.some((one) => one.sandboxID === box.sandboxId));

    await box.wake({ timeout: 600 });
    assert.equal(box.status, "running");
    const after = await getBox(box.sandboxId);
    for (const field of ["cpuCount", "memoryMB", "diskMB", "metadata", "templateID", "startedAt"]) {
      assert.deepEqual(after[field], before[field], field);
    }
    assert.ok(after.token && after.connectURL && after.workerID);
    assert.ok((await counter.read()) >= count, "what it counted is kept");
    await counter.goesOn();
    await sh(box, `kill -0 ${counter.pid}`);
    assert.equal(await box.files.read("/home/sandbox/kept"), text);
    assert.equal(await identity(box), who);
    assert.equal(await sh(box, 'printf %s "$KEPT"'), "a b");
    // The token from before still opens it.
    const own = await call("POST", `/sandboxes/${box.sandboxId}/exec/run`, {
      body: { cmd: "echo in" }, key: false, headers: { Authorization: `Bearer ${before.token}` },
    });
    assert.equal(own.json?.stdout, "in\n", own.text);
  });

  test("a hibernated sandbox has no process and no network device", needsMachine, async () => {
    const box = await createBox();
    const pid = await vmmPid(box.sandboxId);
    const held = await holdings(pid);
    assert.equal(held.taps.length, 1);
    await box.hibernate();
    assert.equal(await vmmPid(box.sandboxId), 0);
    const rest = await leftovers(box.sandboxId, held);
    assert.deepEqual(rest.filter((line) => /^(tap|process) /.test(line)), []);
    await sh(box, "true");
    assert.notEqual(await vmmPid(box.sandboxId), 0);
  });

  test("repeated calls and wrong states", async () => {
    const box = await createBox();
    const running = await post(box, "/wake", { timeout: 600 });
    assert.deepEqual([running.status, running.json?.status], [200, "running"], running.text);
    for (const turn of ["first", "second"]) {
      const reply = await post(box, "/hibernate");
      assert.deepEqual([reply.status, reply.json?.status], [200, "hibernated"], `${turn}: ${reply.text}`);
    }
    await box.kill();
    assertRefused(await post(box, "/hibernate"), 400, /not running/);
    assertRefused(await post(box, "/wake"), 400);
    for (const below of ["/hibernate", "/wake"]) {
      assertRefused(await call("POST", `/sandboxes/sb-00000000${below}`), 404);
    }
  });

  test("any call on commands or files wakes it", async () => {
    const box = await createBox();
    await box.files.write("/tmp/f", "text");
    const path = `/sandboxes/${box.sandboxId}`;
    const calls = {
      "exec.run of the SDK": async () => assert.equal((await box.exec.run("echo hi")).stdout, "hi\n"),
      "exec/run": async () => assert.equal((await post(box, "/exec/run", { cmd: "echo hi" })).json?.stdout, "hi\n"),
      "files.read": async () => assert.equal(await box.files.read("/tmp/f"), "text"),
      "files.write": async () => box.files.write("/tmp/g", "more"),
      "files.list": async () => assert.ok((await box.files.list("/tmp")).some((one) => one.name === "g")),
      "raw read": async () => assert.equal((await call("GET", `${path}/files?path=/tmp/g`)).text, "more"),
    };
    for (const [name, one] of Object.entries(calls)) {
      await box.hibernate();
      assert.equal((await getBox(box.sandboxId)).status, "hibernated", name);
      await one();
      assert.equal((await getBox(box.sandboxId)).status, "running", name);
    }
  });

  test("looking does not wake, and a timeout is stored without waking", async () => {
    const box = await createBox();
    await box.hibernate();
    await box.setTimeout(1234);
    await box.isRunning();
    await call("GET", "/sandboxes");
    await box.listCheckpoints();
    await sleep(1000);
    assert.equal((await getBox(box.sandboxId)).status, "hibernated");
    const reply = await post(box, "/wake"); // no body: the timeout stays
    assert.equal(reply.status, 200, reply.text);
    const left = Date.parse((await getBox(box.sandboxId)).endAt) - Date.now();
    assert.ok(left > 1000_000 && left <= 1234_000 + 60_000, `${left} ms left`);
    await box.hibernate();
    await box.wake(); // the SDK says 0: never
    assert.ok(!(await getBox(box.sandboxId)).endAt);
  });

  test("X-OSB-Async-Wake answers at once and the wake goes on", async () => {
    const box = await createBox();
    await box.files.write("/tmp/f", "text");
    await box.hibernate();
    const reply = await call("GET", `/sandboxes/${box.sandboxId}/files?path=/tmp/f`, {
      headers: { "X-OSB-Async-Wake": "1" },
    });
    assertRefused(reply, 503);
    assert.equal(reply.json.waking, true);
    await waitStatus(box.sandboxId, "running");
    assert.equal(await box.files.read("/tmp/f"), "text");
  });

  test("run-async on a hibernated sandbox: its result comes through polling", async () => {
    const box = await createBox();
    await box.hibernate();
    const started = await post(box, "/exec/run-async", { cmd: "echo cold; exit 3" });
    assert.ok([200, 202].includes(started.status), started.text);
    const done =
      started.status === 200
        ? started.json
        : await eventually("the result", async () => {
            const reply = await call("GET", `/sandboxes/${box.sandboxId}/exec/${started.json.execId}/result`);
            assert.equal(reply.status, 200, reply.text);
            return reply.json.running ? null : reply.json;
          });
    assert.deepEqual([done.exitCode, done.stdout], [3, "cold\n"]);
  });

  test("twelve calls at once share one wake", async () => {
    const box = await createBox();
    const counter = await startCounter(box);
    await box.files.write("/tmp/f", "text");
    await box.hibernate();
    const results = await Promise.all([
      ...Array.from({ length: 6 }, (_, i) => sh(box, `echo ${i}`)),
      ...Array.from({ length: 4 }, () => box.files.read("/tmp/f")),
      post(box, "/wake", { timeout: 600 }).then((reply) => String(reply.status)),
      post(box, "/wake", { timeout: 600 }).then((reply) => String(reply.status)),
    ]);
    assert.deepEqual(results, ["0\n", "1\n", "2\n", "3\n", "4\n", "5\n", "text", "text", "text", "text", "200", "200"]);
    await counter.goesOn();
    if (!noMachine) assert.notEqual(await vmmPid(box.sandboxId), 0);
  });

  test("commands and their results live through a hibernation", async () => {
    const box = await createBox();
    const result = (id) => call("GET", `/sandboxes/${box.sandboxId}/exec/${id}/result`);
    const ended = await post(box, "/exec/run-async", { cmd: "sleep 1; echo before; exit 7" });
    assert.equal(ended.status, 202, ended.text);
    await eventually("its end", async () => !(await result(ended.json.execId)).json.running);
    const running = await post(box, "/exec/run-async", {
      cmd: "echo one; while ! test -e /tmp/go; do sleep 0.2; done; echo two", timeout: 600,
    });
    assert.equal(running.status, 202, running.text);
    await box.hibernate();
    await box.wake({ timeout: 600 });
    const kept = await result(ended.json.execId);
    assert.deepEqual([kept.status, kept.json.exitCode, kept.json.stdout], [200, 7, "before\n"], kept.text);
    assert.equal((await result(running.json.execId)).json.running, true);
    await sh(box, "touch /tmp/go");
    const done = await eventually("the end of the other", async () => {
      const reply = await result(running.json.execId);
      return reply.json.running ? null : reply.json;
    });
    assert.deepEqual([done.exitCode, done.stdout], [0, "one\ntwo\n"]);
    const listed = await box.exec.list();
    for (const { json } of [ended, running]) {
      assert.ok(listed.some((one) => one.sessionID === json.execId), "sessions are still listed");
    }
  });

  test("an idle sandbox hibernates and the next call wakes it", async () => {
    const box = await createBox({ timeout: 5 }, "created");
    const counter = await startCounter(box);
    await waitStatus(box.sandboxId, "hibernated");
    await counter.goesOn();
    await box.setTimeout(600);
    assert.equal((await getBox(box.sandboxId)).status, "running");
  });

  test("kill of a hibernated sandbox drops everything", async () => {
    const box = await createBox();
    await box.hibernate();
    await box.kill();
    assert.equal((await getBox(box.sandboxId)).status, "stopped");
    await box.kill();
    assertRefused(await post(box, "/exec/run", { cmd: "true" }), 410);
    if (!noMachine) {
      assert.deepEqual(await leftovers(box.sandboxId, { taps: [], dirs: [], cgroups: [] }), []);
    }
  });

  test("a hibernated sandbox that is killed while it wakes is gone", async () => {
    const box = await createBox();
    await box.hibernate();
    const waking = post(box, "/wake");
    await sleep(100);
    await box.kill();
    assert.ok([200, 400, 404, 410].includes((await waking).status));
    assert.equal((await getBox(box.sandboxId)).status, "stopped");
  });

  for (const [name, below] of [["reboot", "/reboot"], ["power-cycle", "/power-cycle"]]) {
    test(`${name}: files stay, processes do not`, async () => {
      const box = await createBox();
      const counter = await startCounter(box);
      await box.files.write("/home/sandbox/kept", "kept");
      await sh(box, "sync");
      const boot = await sh(box, "cat /proc/sys/kernel/random/boot_id");
      const reply = await post(box, below);
      assert.equal(reply.status, 204, reply.text);
      assert.equal(await box.files.read("/home/sandbox/kept"), "kept");
      assert.notEqual(await sh(box, "cat /proc/sys/kernel/random/boot_id"), boot);
      const gone = await box.exec.run("test -e /dev/shm/count");
      assert.equal(gone.exitCode, 1, `the counter ${counter.pid} is gone`);
      await box.hibernate();
      assert.equal(await box.files.read("/home/sandbox/kept"), "kept");
      await box.kill();
      assertRefused(await post(box, below), 400);
    });
  }

  test("TCP connections inside the sandbox go on", async () => {
    const box = await createBox({ template: "base", memoryMB: 1024 });
    await box.files.write("/tmp/server.py", [
      "import socket, threading",
      "server = socket.create_server(('127.0.0.1', 7777))",
      "def serve():",
      "    peer, _ = server.accept()",
      "    while data := peer.recv(100): peer.sendall(data.upper())",
      "threading.Thread(target=serve, daemon=True).start()",
      "client = socket.create_connection(('127.0.0.1', 7777))",
      "while True:",
      "    asked = open('/tmp/ask').readline()",
      "    client.sendall(asked.encode())",
      "    answer = client.recv(100).decode()",
      "    open('/tmp/answer', 'w').write(answer)",
    ].join("\n"));
    await sh(box, "mkfifo /tmp/ask /tmp/answer; python3 /tmp/server.py >/tmp/log 2>&1 & true");
    const ask = (word) => sh(box, `echo ${word} >/tmp/ask; cat /tmp/answer`);
    assert.equal(await ask("one"), "ONE\n");
    await box.hibernate();
    assert.equal(await ask("two"), "TWO\n");
  });
});

describe("checkpoints", suite, () => {
  afterEach(cleanUp);

  test("a checkpoint is processing, then ready, and the source runs on meanwhile", async () => {
    const box = await createBox();
    assert.deepEqual(await box.listCheckpoints(), []);
    const counter = await startCounter(box);
    await sh(box, "head -c 20000000 /dev/urandom >/tmp/data");
    const before = await counter.read();
    const reply = await post(box, "/checkpoints", { name: "first" });
    assert.equal(reply.status, 201, reply.text);
    const made = reply.json;
    assert.match(made.id, /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
    assert.equal(made.sandboxId, box.sandboxId);
    assert.deepEqual([made.name, made.status, made.kind, made.sizeBytes], ["first", "processing", "full", 0]);
    assert.equal(typeof made.orgId, "string");
    assert.ok(!Number.isNaN(Date.parse(made.createdAt)));
    assert.equal(await sh(box, "echo alive"), "alive\n", "commands are taken meanwhile");
    await counter.goesOn();
    assert.ok((await counter.read()) > before);
    const ready = await waitReady(box, made.id);
    assert.ok(ready.sizeBytes > 0);
    assert.ok(ready.rootfsS3Key && ready.workspaceS3Key);
    assert.equal((await getBox(box.sandboxId)).status, "running");
    const second = await box.createCheckpoint("second");
    assert.deepEqual((await box.listCheckpoints()).map((one) => one.id), [second.id, made.id], "newest first");
    await box.kill();
    assert.equal((await box.listCheckpoints()).length, 2, "the list of an ended sandbox");
    assert.equal((await call("GET", `/sandboxes/${box.sandboxId}/checkpoints`)).status, 200);
  });

  test("names and states that are refused", async () => {
    const box = await createBox();
    await box.createCheckpoint("taken");
    assertRefused(await post(box, "/checkpoints", { name: "taken" }), 409, /already exists/);
    assertRefused(await post(box, "/checkpoints", { name: "" }), 400);
    assertRefused(await post(box, "/checkpoints", {}), 400);
    assertRefused(await post(box, "/checkpoints", { name: 5 }), 400);
    assertRefused(await post(box, "/checkpoints", { name: "x", kind: "half" }), 400);
    assertRefused(await call("POST", "/sandboxes/sb-00000000/checkpoints", { body: { name: "x" } }), 404);
    await box.hibernate();
    assertRefused(await post(box, "/checkpoints", { name: "asleep" }), 400);
    assert.equal((await getBox(box.sandboxId)).status, "hibernated");
  });

  test("the eleventh full checkpoint is refused, delete_oldest makes room", async () => {
    const box = await createBox();
    for (let i = 0; i < 10; i++) await waitReady(box, (await box.createCheckpoint(`n${i}`)).id);
    assertRefused(await post(box, "/checkpoints", { name: "n10" }), 400, /maximum/);
    const last = await box.createCheckpoint("n10", { retentionPolicy: { mode: "delete_oldest", maxCount: 3 } });
    await waitReady(box, last.id);
    await eventually("three are left", async () => (await box.listCheckpoints()).length === 3);
    assert.deepEqual((await box.listCheckpoints()).map((one) => one.name), ["n10", "n9", "n8"]);
    const fork = await forkBox((await box.listCheckpoints())[2].id);
    assert.equal(await sh(fork, "echo fine"), "fine\n");
  });

  test("restore takes files and memory back", async () => {
    const box = await createBox();
    await box.files.write("/home/sandbox/changed", "old");
    await sh(box, "echo 1 >/dev/shm/memory");
    const { id } = await box.createCheckpoint("before");
    await waitReady(box, id);
    await box.files.write("/home/sandbox/changed", "new and longer");
    await box.files.write("/home/sandbox/later", "later");
    await sh(box, "rm /etc/hostname.bak 2>/dev/null; head -c 30000000 /dev/zero >/home/sandbox/big");
    const later = await box.createCheckpoint("later");
    const { token } = await getBox(box.sandboxId);
    await box.restoreCheckpoint(id);
    assert.equal(await sh(box, "cat changed; ls"), "oldchanged\n", "a command right after it");
    assert.equal(await box.files.exists("/home/sandbox/later"), false);
    const info = await getBox(box.sandboxId);
    assert.equal(info.status, "running");
    assert.ok(info.token && token);
    assert.deepEqual((await box.listCheckpoints()).map((one) => one.name), ["later", "before"]);
    // It is a sandbox like any other: it goes on, hibernates, and can go to the later one too.
    await box.files.write("/home/sandbox/branch", "x");
    await box.hibernate();
    assert.equal(await box.files.read("/home/sandbox/branch"), "x");
    await waitReady(box, later.id);
    await box.restoreCheckpoint(later.id);
    assert.equal(await box.files.read("/home/sandbox/changed"), "new and longer");
    assert.equal(await box.files.exists("/home/sandbox/branch"), false);
  });

  test("restore of a hibernated sandbox, and what is refused", async () => {
    const [box, other] = [await createBox(), await createBox()];
    await box.files.write("/tmp/mark", "1");
    const { id } = await box.createCheckpoint("one");
    await waitReady(box, id);
    await box.files.write("/tmp/mark", "2");
    await box.hibernate();
    await box.restoreCheckpoint(id);
    assert.equal(await box.files.read("/tmp/mark"), "1");
    // With several nodes the one that runs the other sandbox need not know the checkpoint.
    assertRefused(await post(other, `/checkpoints/${id}/restore`), process.env.SHOAL_NODES ? [400, 404] : 400);
    assertRefused(await post(box, "/checkpoints/not-a-uuid/restore"), 400);
    assertRefused(await post(box, `/checkpoints/${randomUUID()}/restore`), 404);
    assert.equal(await sh(other, "echo unharmed"), "unharmed\n");
    await box.kill();
    assertRefused(await post(box, `/checkpoints/${id}/restore`), [400, 410]);
  });

  test("a fork: everything of the source, an identity of its own, and apart from it", async () => {
    const box = await createBox({ envs: { A: "source", B: "kept" }, metadata: { m: "1" } });
    const counter = await startCounter(box);
    await box.files.write("/home/sandbox/mark", "marked");
    const { id } = await box.createCheckpoint("for-forks");
    const reply = await call("POST", `/sandboxes/from-checkpoint/${id}`, {
      body: { timeout: 700, envs: { A: "fork", C: "new" }, metadata: { n: "2" } },
    });
    assert.equal(reply.status, 201, reply.text);
    const info = reply.json;
    const fork = await Sandbox.connect(adopt(info.sandboxID), { apiUrl, apiKey });
    assert.equal(info.fromCheckpointId, id);
    assert.equal(info.status, "running");
    assert.notEqual(info.sandboxID, box.sandboxId);
    assert.deepEqual(info.metadata, { m: "1", n: "2" });
    const span = Date.parse(info.endAt) - Date.now();
    assert.ok(span > 500_000 && span < 710_000, `the timeout was taken: ${span} ms`);
    assert.ok((await call("GET", "/sandboxes")).json.some((one) => one.sandboxID === info.sandboxID), "in the list at once");
    assert.equal(await sh(fork, 'cat mark; printf " %s %s %s" "$A" "$B" "$C"'), "marked fork kept new");
    await counter.goesOn(fork);
    await sh(fork, `kill -0 ${counter.pid}`);
    const [mine, its] = [await identity(fork), await identity(box)];
    mine.split("\n").forEach((line, i) => {
      if (line) assert.notEqual(line, its.split("\n")[i], "hostname, machine id, boot id");
    });
    assert.equal((await sh(fork, "hostname")).trim(), info.sandboxID);
    // Apart from each other, both ways.
    await fork.files.write("/home/sandbox/mark", "changed by the fork");
    await box.files.write("/home/sandbox/source-only", "x");
    assert.equal(await box.files.read("/home/sandbox/mark"), "marked");
    assert.equal(await fork.files.exists("/home/sandbox/source-only"), false);
    await box.kill();
    assert.equal(await sh(fork, "cat mark"), "changed by the fork");
    const late = await forkBox(id);
    assert.equal(await sh(late, "cat mark"), "marked", "a fork after the source has ended");
  });

  test("a fork right after the checkpoint was asked for", async () => {
    const box = await createBox();
    await sh(box, "head -c 60000000 /dev/urandom >/tmp/data; sha256sum /tmp/data >/tmp/sum");
    const { id, status } = await box.createCheckpoint("now");
    assert.equal(status, "processing");
    const fork = await forkBox(id);
    assert.match(await sh(fork, "sha256sum -c /tmp/sum"), /OK/);
  });

  test("ids of checkpoints that are none", async () => {
    assertRefused(await call("POST", "/sandboxes/from-checkpoint/cp-abc123", { body: {} }), 400);
    assertRefused(await call("POST", `/sandboxes/from-checkpoint/${randomUUID()}`, { body: {} }), 404);
    const box = await createBox();
    assertRefused(await call("DELETE", `/sandboxes/${box.sandboxId}/checkpoints/nonsense`), 400);
    assertRefused(await call("DELETE", `/sandboxes/${box.sandboxId}/checkpoints/${randomUUID()}`), 404);
    await box.deleteCheckpoint(randomUUID()); // the SDK takes 404 for a success
  });

  test("memory, processors and disk of a fork", async () => {
    const box = await createBox({ memoryMB: 1024 });
    const { id } = await box.createCheckpoint("sizes");
    const fork = async (body) => {
      const reply = await call("POST", `/sandboxes/from-checkpoint/${id}`, { body });
      assert.equal(reply.status, 201, reply.text);
      return Sandbox.connect(adopt(reply.json.sandboxID), { apiUrl, apiKey });
    };
    const less = await fork({ memoryMB: 512, diskMB: 20480 });
    const more = await fork({ memoryMB: 1536, cpuCount: 2, diskMB: 30720 });
    const [small, large] = [await getBox(less.sandboxId), await getBox(more.sandboxId)];
    assert.deepEqual([small.memoryMB, small.cpuCount, small.diskMB], [1024, 1, 20480], "never less than the source");
    assert.deepEqual([large.memoryMB, large.cpuCount, large.diskMB], [1536, 2, 30720]);
    assert.equal((await sh(more, "nproc")).trim(), "2");
    const mib = Number(await sh(more, "awk '/^MemTotal/ {print int($2 / 1024)}' /proc/meminfo"));
    assert.ok(mib > 1400 && mib <= 1536, `MemTotal ${mib} MiB`);
    const disk = Number(await sh(more, "df -m / | awk 'NR == 2 {print $2}'"));
    assert.ok(disk > 28_000, `${disk} MiB of disk`);
    assertRefused(await call("POST", `/sandboxes/from-checkpoint/${id}`, { body: { cpuCount: 9 } }), 400);
  });

  test("delete: 204, then 404, and forks live on", async () => {
    const box = await createBox();
    await box.files.write("/home/sandbox/mark", "x".repeat(100_000));
    const { id } = await box.createCheckpoint("short-lived");
    const fork = await forkBox(id);
    const counter = await startCounter(fork);
    await waitReady(box, id);
    await box.kill();
    const path = `/sandboxes/${box.sandboxId}/checkpoints/${id}`;
    assert.equal((await call("DELETE", path)).status, 204);
    assertRefused(await call("DELETE", path), 404);
    assertRefused(await call("POST", `/sandboxes/from-checkpoint/${id}`, { body: {} }), 404);
    assert.deepEqual(await box.listCheckpoints(), []);
    await fork.hibernate();
    await counter.goesOn();
    assert.equal((await fork.files.read("/home/sandbox/mark")).length, 100_000);
    const again = await forkBox((await fork.createCheckpoint("of-the-fork")).id);
    assert.equal((await again.files.read("/home/sandbox/mark")).length, 100_000);
  });

  test("delete of a checkpoint of another sandbox is refused", async () => {
    const [box, other] = [await createBox(), await createBox()];
    const { id } = await box.createCheckpoint("mine");
    assertRefused(await call("DELETE", `/sandboxes/${other.sandboxId}/checkpoints/${id}`), [400, 404]);
    assert.equal((await box.listCheckpoints()).length, 1);
  });

  test("a checkpoint of the disk alone: its forks boot with every file", async () => {
    const box = await createBox();
    const counter = await startCounter(box);
    await sh(box, "head -c 20000000 /dev/urandom >data; sha256sum data >sum");
    const made = await box.createCheckpoint("disk", { kind: "disk_only" });
    await waitReady(box, made.id);
    await counter.goesOn();
    const fork = await forkBox(made.id);
    assert.match(await sh(fork, "sha256sum -c sum"), /OK/);
    assert.equal((await fork.exec.run("test -e /dev/shm/count")).exitCode, 1, "it was booted");
    await sh(fork, "touch more");
  });

  test("what is written before a checkpoint is in it, without sync", async () => {
    const box = await createBox();
    for (let i = 0; i < 3; i++) {
      await box.files.write(`/home/sandbox/f${i}`, `${i}`.repeat(50_000));
      const { id } = await box.createCheckpoint(`c${i}`);
      const fork = await forkBox(id);
      assert.equal(await fork.files.read(`/home/sandbox/f${i}`), `${i}`.repeat(50_000));
      await fork.kill();
    }
  });

  test("checkpoints while commands and uploads are under way", { skip: long ? false : "takes long: set SHOAL_TEST_LONG" }, async () => {
    const box = await createBox();
    let stop = false;
    const load = (async () => {
      for (let i = 0; !stop; i++) {
        const text = `${i}`.repeat(10_000);
        await box.files.write("/tmp/load", text);
        assert.equal(await box.files.read("/tmp/load"), text);
        assert.equal(await sh(box, `echo ${i}`), `${i}\n`);
      }
    })();
    for (let i = 0; i < 8; i++) await waitReady(box, (await box.createCheckpoint(`under-load-${i}`)).id);
    stop = true;
    await load;
  });
});
