// Many forks of one checkpoint: each with an identity and random numbers of its own, all with
// the same, consistent files (contract test 57).
import assert from "node:assert/strict";
import { afterEach, describe, test } from "node:test";
import {
  adopt, apiKey, apiUrl, call, cleanUp, createBox, eventually, forkBox, long, Sandbox, sh, suite, takeTurn, waitReady,
} from "./lib/shoal.mjs";

await takeTurn({ alone: true });

// Each of 512 MB: with little memory take fewer.
const FORKS = Number(process.env.SHOAL_TEST_FORKS ?? (long ? 16 : 6));

// Prints a uuid4 for each line it is asked for: a process that was started before the
// checkpoint, so all it has is the randomness of the kernel below it.
const uuidServer = [
  "import uuid",
  "while True:",
  "    open('/tmp/ask').readline()",
  "    open('/tmp/answer', 'w').write(str(uuid.uuid4()) + '\\n')",
].join("\n");

async function startUuidServer(box) {
  await box.files.write("/tmp/server.py", uuidServer);
  await sh(box, "mkfifo /tmp/ask /tmp/answer; python3 /tmp/server.py >/tmp/log 2>&1 & true");
  assert.match(await sh(box, "echo x >/tmp/ask; cat /tmp/answer"), /^[0-9a-f-]{36}\n$/, "the server answers");
}

const ask = [
  "hostname",
  "cat /etc/machine-id",
  "cat /proc/sys/kernel/random/boot_id",
  "cat /sys/class/net/eth0/address",
  "ip -4 -o addr show dev eth0 | awk '{print $4}'",
  "head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \\n'; echo",
  "cat /proc/sys/kernel/random/uuid",
  "echo x >/tmp/ask; cat /tmp/answer",
  "python3 -c 'import uuid; print(uuid.uuid4())'",
];
const asked = ["hostname", "machine id", "boot id", "MAC", "address", "urandom", "kernel uuid", "uuid4 of the old process", "uuid4 of a new one"];

/** Ask all forks and check that no two of them, nor the source, have anything in common. */
async function assertAllDiffer(boxes) {
  const answers = await Promise.all(boxes.map((box) => sh(box, ask.join("; "))));
  const rows = answers.map((text) => text.trimEnd().split("\n"));
  for (const row of rows) assert.equal(row.length, asked.length, row.join(" | "));
  asked.forEach((name, i) => {
    const values = rows.map((row) => row[i]);
    assert.ok(values.every((value) => value.length >= 7), `${name}: ${values}`);
    assert.equal(new Set(values).size, boxes.length, `${name}: ${values.join(" ")}`);
  });
  boxes.forEach((box, i) => assert.equal(rows[i][0], box.sandboxId));
}

describe("forks", suite, () => {
  afterEach(cleanUp);

  test(`${FORKS} forks in one request (template base)`, async () => {
    const box = await createBox({ template: "base" });
    await startUuidServer(box);
    await box.files.write("/tmp/mark", "marked");
    const { id } = await box.createCheckpoint("many");
    const reply = await call("POST", `/sandboxes/from-checkpoint/${id}`, {
      body: { count: FORKS, timeout: 600 }, signal: AbortSignal.timeout(600_000),
    });
    assert.equal(reply.status, 201, reply.text);
    assert.equal(reply.json.created, FORKS, reply.text);
    assert.equal(reply.json.results.length, FORKS);
    const ids = reply.json.results.map((one) => adopt(one.sandbox.sandboxID));
    for (const one of reply.json.results) {
      assert.deepEqual([one.sandbox.status, one.sandbox.fromCheckpointId], ["running", id]);
    }
    const forks = await Promise.all(ids.map((one) => Sandbox.connect(one, { apiUrl, apiKey })));
    await assertAllDiffer([box, ...forks]);
    for (const fork of forks) assert.equal(await fork.files.read("/tmp/mark"), "marked");
    // Apart: what one writes none of the others sees.
    await Promise.all(forks.map((fork, i) => fork.files.write("/tmp/mark", `fork ${i}`)));
    const marks = await Promise.all(forks.map((fork) => fork.files.read("/tmp/mark")));
    marks.forEach((mark, i) => assert.equal(mark, `fork ${i}`));
    assert.equal(await box.files.read("/tmp/mark"), "marked");
    const listed = new Set((await call("GET", "/sandboxes")).json.map((one) => one.sandboxID));
    for (const one of ids) assert.ok(listed.has(one), `${one} is listed`);
  });

  test(`${FORKS} forks at once through the SDK (template base)`, async () => {
    const box = await createBox({ template: "base" });
    await startUuidServer(box);
    const { id } = await box.createCheckpoint("parallel");
    await waitReady(box, id);
    const forks = await Promise.all(
      Array.from({ length: FORKS }, (_, i) => forkBox(id, { envs: { NUMBER: String(i) } })),
    );
    assert.equal(new Set(forks.map((fork) => fork.sandboxId)).size, FORKS);
    await assertAllDiffer([box, ...forks]);
    const numbers = await Promise.all(forks.map((fork) => sh(fork, "echo $NUMBER")));
    numbers.forEach((text, i) => assert.equal(text, `${i}\n`));
  });

  test("files that were being written are whole in every fork (template base)", { skip: long ? false : "takes long: set SHOAL_TEST_LONG" }, async () => {
    const box = await createBox({ template: "base", memoryMB: 512 });
    // Each file is named by the checksum of its content and appears by rename, so a file
    // that does not match its name was torn.
    await sh(box, [
      "git config --global user.email e2e@example.com; git config --global user.name e2e",
      "mkdir -p /home/sandbox/tree; git init -q /home/sandbox/repo",
      "(cd /home/sandbox/tree; i=0; while :; do i=$((i + 1)); head -c $((i % 50 * 1000 + 1)) /dev/urandom >.new;" +
        " mv .new $(sha256sum <.new | cut -c1-64); done) >/dev/null 2>&1 &",
      "(cd /home/sandbox/repo; i=0; while :; do i=$((i + 1)); echo $i >>log; cp log file$((i % 20));" +
        " git add -A && git commit -q -m $i; done) >/dev/null 2>&1 &",
    ].join("\n"));
    await eventually("both have written some", async () =>
      Number(await sh(box, "ls tree | wc -l")) > 20 && Number(await sh(box, "git -C repo rev-list --count HEAD 2>/dev/null || echo 0")) > 3);
    const { id } = await box.createCheckpoint("busy");
    const forks = await Promise.all(Array.from({ length: 8 }, () => forkBox(id)));
    // They go on from the middle of what they were doing, then stop; all before the first is
    // looked at, since they are many for a small machine. A commit cut by this leaves its lock.
    const stop = "sleep 2; pkill -f 'whil[e] :'; sleep 1; pkill -9 git; find repo/.git -name '*.lock' -delete";
    await Promise.all([box, ...forks].map((fork) => sh(fork, stop, { timeout: 300 })));
    const check = [
      "(cd tree && sha256sum * | awk '$1 != $2 {print \"torn\", $2}')",
      "git -C repo fsck --full --strict 2>&1 | grep -v -e '^dangling' -e '^notice'",
      "echo commits $(git -C repo rev-list --count HEAD) files $(ls tree | wc -l)",
    ].join("; ");
    for (const fork of [box, ...forks]) {
      const out = await sh(fork, check, { timeout: 300 });
      assert.match(out, /^commits (\d{1,5}) files (\d{2,6})\n$/, `${fork.sandboxId}: ${out}`);
      // And the file system itself: nothing the kernel complained about.
      assert.equal(await sh(fork, "sudo dmesg | grep -i 'ext4-fs error\\|I/O error' || true"), "");
    }
  });

  test("forks of a fork of a fork, all at once alive", async () => {
    let box = await createBox();
    const line = [box];
    for (let i = 0; i < 3; i++) {
      await box.files.write(`/home/sandbox/level${i}`, `${i}`);
      const { id } = await box.createCheckpoint("next");
      box = await forkBox(id);
      line.push(box);
    }
    const seen = await Promise.all(line.map((one) => sh(one, "ls")));
    assert.deepEqual(seen, [
      "level0\n", "level0\nlevel1\n", "level0\nlevel1\nlevel2\n", "level0\nlevel1\nlevel2\n",
    ]);
    await line[1].kill();
    await line[0].kill();
    assert.equal(await sh(line[3], "cat level*"), "012");
  });
});
