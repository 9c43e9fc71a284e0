// Files (contract tests 44 to 49).
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { api, apiKey, call, cleanUp, createBox, eventually, long, sh, sleep, suite, takeTurn } from "./lib/shoal.mjs";

await takeTurn();

const STREAM_MB = long ? 100 : 25;
const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");

describe("files", suite, () => {
  let box;
  before(async () => {
    box = await createBox();
  });
  after(cleanUp);

  const at = (below, path) =>
    `/sandboxes/${box.sandboxId}/files${below}?path=${encodeURIComponent(path)}`;

  test("text, all bytes, and nothing at all", async () => {
    await box.files.write("/tmp/text", "grüße ☃\nzweite\n");
    assert.equal(await box.files.read("/tmp/text"), "grüße ☃\nzweite\n");
    const all = Uint8Array.from({ length: 256 }, (_, i) => i);
    await box.files.write("/tmp/all", all);
    assert.deepEqual(await box.files.readBytes("/tmp/all"), all);
    await box.files.write("/tmp/empty", "");
    assert.equal(await box.files.read("/tmp/empty"), "");
    assert.equal(await box.files.exists("/tmp/empty"), true);
    await box.files.write("/tmp/text", "short");
    assert.equal(await box.files.read("/tmp/text"), "short", "an old file is cut to the new length");
  });

  test("names with blanks, percent, hash, plus, quotes, unicode and a newline", async () => {
    const names = ["a b", "100%", "%41", "c#d", "e+f", "g&h=i", "q'\"q", "ü☃漢\u{1f600}", "new\nline", "-rf", ".hidden"];
    for (const name of names) {
      await box.files.write(`/tmp/names/${name}`, name);
      assert.equal(await box.files.read(`/tmp/names/${name}`), name);
      assert.equal(await box.files.exists(`/tmp/names/${name}`), true);
    }
    const listed = (await box.files.list("/tmp/names")).map((entry) => entry.name);
    assert.deepEqual([...listed].sort(), [...names].sort());
    for (const name of names) await box.files.remove(`/tmp/names/${name}`);
    assert.deepEqual(await box.files.list("/tmp/names"), []);
  });

  test("a write makes parents; files belong to the user and can be overwritten there", async () => {
    await box.files.write("/home/sandbox/deep/er/file.sh", "#!/bin/sh\necho hi\n");
    assert.equal((await sh(box, "stat -c '%U:%G %a' deep/er/file.sh")).trim(), "sandbox:sandbox 644");
    assert.equal((await sh(box, "stat -c '%U %a' deep/er")).trim(), "sandbox 755");
    await sh(box, "echo more >>deep/er/file.sh && chmod 750 deep/er/file.sh");
    await box.files.write("/home/sandbox/deep/er/file.sh", "#!/bin/sh\necho again\n");
    assert.equal((await sh(box, "stat -c %a deep/er/file.sh && deep/er/file.sh")).trim(), "750\nagain");
  });

  test("the file API acts as root", async () => {
    assert.match(await box.files.read("/etc/shadow"), /root:/);
    await box.files.write("/root/from-api", "x");
    assert.equal((await sh(box, "sudo cat /root/from-api")).trim(), "x");
  });

  test("a relative path is below the home folder", async () => {
    await box.files.write("relative.txt", "here");
    assert.equal(await sh(box, "cat /home/sandbox/relative.txt"), "here");
    assert.equal(await box.files.read("relative.txt"), "here");
  });

  test("a write goes into the file that is there: link, inode and hard links stay", async () => {
    await sh(box, "mkdir -p w && cd w && echo old >target && ln -sf target link && ln -f target hard");
    const inode = await sh(box, "stat -c %i w/target");
    await box.files.write("/home/sandbox/w/link", "new");
    assert.equal(await sh(box, "cat w/target w/hard"), "newnew");
    assert.equal(await sh(box, "stat -c %i w/target"), inode);
    assert.equal((await sh(box, "readlink w/link")).trim(), "target");
    assert.equal(await box.files.read("/home/sandbox/w/link"), "new");
  });

  // The kernel forbids root to follow another user's link in /tmp (protected_symlinks).
  test("a link in /tmp is followed like any other", async () => {
    await sh(box, "cd /tmp && echo old >plain && ln -sf plain its-link");
    assert.equal(await box.files.read("/tmp/its-link"), "old\n");
    await box.files.write("/tmp/its-link", "new");
    assert.equal(await sh(box, "cat /tmp/plain"), "new");
  });

  test("list: shape, order, hidden files, links to folders", async () => {
    await sh(box, "rm -rf /tmp/l && mkdir -p /tmp/l/b.dir && cd /tmp/l && printf 12345 >c && touch .h a && ln -s b.dir d");
    const entries = await box.files.list("/tmp/l");
    assert.deepEqual(entries.map((e) => e.name), [".h", "a", "b.dir", "c", "d"]);
    for (const entry of entries) {
      assert.equal(entry.path, `/tmp/l/${entry.name}`);
      assert.equal(typeof entry.isDir, "boolean");
      assert.ok(Number.isInteger(entry.size));
    }
    assert.deepEqual(entries.map((e) => e.isDir), [false, false, true, false, true]);
    assert.equal(entries[3].size, 5);
    const root = await box.files.list();
    for (const name of ["etc", "home", "tmp", "usr", "workspace"]) {
      assert.ok(root.some((e) => e.name === name), name);
    }
    await assert.rejects(box.files.list("/no/such"), /404/);
  });

  test("a folder of 3000 entries", async () => {
    await sh(box, "mkdir -p /tmp/many && cd /tmp/many && seq -f 'file-%05g' 3000 | xargs touch");
    const entries = await box.files.list("/tmp/many");
    assert.equal(entries.length, 3000);
    assert.equal(entries[2999].name, "file-03000");
    await box.files.remove("/tmp/many");
  });

  test("mkdir is recursive and may be repeated; remove too", async () => {
    await box.files.makeDir("/tmp/m/n/o");
    await box.files.makeDir("/tmp/m/n/o");
    await sh(box, "touch /tmp/m/n/o/mine");
    assert.equal((await call("POST", at("/mkdir", "/tmp/m/p"))).status, 204);
    await box.files.remove("/tmp/m");
    assert.equal(await box.files.exists("/tmp/m/n/o/mine"), false);
    await box.files.remove("/tmp/m");
    assert.equal((await call("DELETE", at("", "/tmp/never/was"))).status, 204);
  });

  test("remove of a link leaves what it points at", async () => {
    await sh(box, "mkdir -p /tmp/kept && touch /tmp/kept/file && ln -sfn /tmp/kept /tmp/gone");
    await box.files.remove("/tmp/gone");
    await sh(box, "test -e /tmp/kept/file && test ! -e /tmp/gone");
  });

  test("exists", async () => {
    assert.equal(await box.files.exists("/etc/passwd"), true);
    assert.equal(await box.files.exists("/no/such"), false);
  });

  test("a read says the exact length and the type; /proc is read to its end", async () => {
    await box.files.write("/tmp/len", "12345");
    const reply = await call("GET", at("", "/tmp/len"));
    assert.equal(reply.headers.get("content-length"), "5");
    assert.match(reply.headers.get("content-type"), /^application\/octet-stream/);
    assert.equal(reply.headers.get("content-encoding"), null);
    assert.match(await box.files.read("/proc/cpuinfo"), /processor/);
    assert.match(await box.files.read("/proc/meminfo"), /MemTotal/);
  });

  test("the content type of an upload means nothing", async () => {
    for (const type of ["application/json", "text/plain", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded"]) {
      const body = '{"not": "parsed"';
      const reply = await call("PUT", at("", "/tmp/typed"), { body, headers: { "Content-Type": type } });
      assert.equal(reply.status, 204, `${type}: ${reply.text}`);
      assert.equal(await box.files.read("/tmp/typed"), body);
    }
  });

  test("10 MB of random bytes there and back through the SDK", async () => {
    const bytes = new Uint8Array(randomBytes(10 * 1024 * 1024));
    await box.files.write("/tmp/random", bytes);
    assert.equal((await sh(box, "sha256sum /tmp/random")).slice(0, 64), sha256(bytes));
    const back = await box.files.readBytes("/tmp/random");
    assert.equal(back.length, bytes.length);
    assert.equal(sha256(back), sha256(bytes));
  });

  test("a stream without a length through the SDK", async () => {
    const block = new Uint8Array(randomBytes(65536));
    const stream = new ReadableStream({
      start(controller) {
        for (let i = 0; i < 50; i++) controller.enqueue(block);
        controller.close();
      },
    });
    await box.files.write("/tmp/streamed", stream);
    const all = Buffer.concat(Array.from({ length: 50 }, () => Buffer.from(block)));
    assert.equal((await sh(box, "sha256sum /tmp/streamed")).slice(0, 64), sha256(all));
  });

  test(`${STREAM_MB} MB as a stream up and down, checked on both sides`, async () => {
    const block = randomBytes(1024 * 1024);
    const hash = createHash("sha256");
    let sent = 0;
    const stream = new ReadableStream({
      pull(controller) {
        if (sent === STREAM_MB) return controller.close();
        block.writeUInt32LE(sent, 0); // no two blocks alike
        hash.update(block);
        controller.enqueue(new Uint8Array(block));
        sent += 1;
      },
    });
    const up = await fetch(`${api}${at("", "/home/sandbox/big")}`, {
      method: "PUT", headers: { "X-API-Key": apiKey }, body: stream, duplex: "half",
    });
    assert.equal(up.status, 204, await up.text());
    const wanted = hash.digest("hex");
    assert.equal((await sh(box, "sha256sum big", { timeout: 300 })).slice(0, 64), wanted);
    const down = await fetch(`${api}${at("", "/home/sandbox/big")}`, { headers: { "X-API-Key": apiKey } });
    assert.equal(down.status, 200);
    assert.equal(down.headers.get("content-length"), String(STREAM_MB * 1024 * 1024));
    const seen = createHash("sha256");
    for await (const chunk of down.body) seen.update(chunk);
    assert.equal(seen.digest("hex"), wanted);
    await box.files.remove("/home/sandbox/big");
  });

  test("an upload that is broken off leaves the sandbox working", async () => {
    const abort = new AbortController();
    let sent = 0;
    const stream = new ReadableStream({
      async pull(controller) {
        await sleep(1); // an endless source without a pause starves the abort
        controller.enqueue(new Uint8Array(65536));
        if (++sent === 20) abort.abort();
        if (sent === 2000) controller.close();
      },
    });
    await assert.rejects(
      fetch(`${api}${at("", "/tmp/broken")}`, {
        method: "PUT", headers: { "X-API-Key": apiKey }, body: stream, duplex: "half", signal: abort.signal,
      }),
    );
    // What comes next is a retry of the same file; stragglers of the first must not reach it.
    await box.files.write("/tmp/broken", "whole");
    const bytes = await box.files.readBytes("/tmp/broken");
    assert.equal(bytes.length, 5, "the length of what was acknowledged");
    await sleep(1000);
    assert.equal(await sh(box, "stat -c %s /tmp/broken"), "5\n", "a second later");
  });

  test("a download that is broken off leaves the sandbox working", async () => {
    await sh(box, "head -c 50000000 /dev/zero >/tmp/zeros");
    const abort = new AbortController();
    const reply = await fetch(`${api}${at("", "/tmp/zeros")}`, {
      headers: { "X-API-Key": apiKey }, signal: abort.signal,
    });
    const reader = reply.body.getReader();
    await reader.read();
    abort.abort();
    await assert.rejects(reader.read());
    assert.equal((await sh(box, "stat -c %s /tmp/zeros")).trim(), "50000000");
  });

  test("five transfers at once", async () => {
    const parts = Array.from({ length: 5 }, () => new Uint8Array(randomBytes(2 * 1024 * 1024)));
    await Promise.all(parts.map((bytes, i) => box.files.write(`/tmp/part${i}`, bytes)));
    const back = await Promise.all(parts.map((_, i) => box.files.readBytes(`/tmp/part${i}`)));
    back.forEach((bytes, i) => assert.equal(sha256(bytes), sha256(parts[i]), `part ${i}`));
  });

  test("signed URLs move a file without a key, and nothing else", async () => {
    const path = "/tmp/signed ü%.bin";
    const up = await box.uploadUrl(path, { expiresIn: 300 });
    assert.equal((await fetch(up, { method: "PUT", body: "signed bytes" })).status, 204);
    assert.equal(await box.files.read(path), "signed bytes");
    const down = await box.downloadUrl(path);
    assert.equal(await (await fetch(down)).text(), "signed bytes");
    const status = async (url, method = "GET") => (await fetch(url, { method, body: method === "PUT" ? "x" : undefined })).status;
    assert.equal(await status(down.replace("bin", "txt")), 403);
    assert.equal(await status(down.replace("/download", "/upload"), "PUT"), 403);
    assert.equal(await status(up.replace(/expires=\d+/, "expires=4000000000"), "PUT"), 403);
    assert.equal(await status(down.replace(/&signature=.*/, "")), 400);
    // Not for another sandbox, not for longer than a day, and not when it is over.
    const other = await createBox();
    assert.equal(await status(down.replace(box.sandboxId, other.sandboxId)), 403);
    const long = await box.downloadUrl(path, { expiresIn: 999_999 });
    assert.ok(Number(/expires=(\d+)/.exec(long)[1]) <= Date.now() / 1000 + 86_400 + 60);
    const short = await box.downloadUrl(path, { expiresIn: 1 });
    const late = await eventually("its end", async () => {
      const reply = await fetch(short);
      return reply.status === 403 ? reply : (await reply.arrayBuffer(), null);
    });
    assert.match(await late.text(), /expired/);
    assert.equal(await box.files.read(path), "signed bytes");
    await box.hibernate();
    assert.equal(await (await fetch(down)).text(), "signed bytes", "it wakes the sandbox");
  });
});
