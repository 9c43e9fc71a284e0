// The program `shoal` (SHOAL_CLI) against a running node.
import assert from "node:assert/strict";
import { execFile, execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { adopt, apiKey, cleanUp, noNode, origin, suite, takeTurn, template } from "./lib/shoal.mjs";

const tree = fileURLToPath(new URL("../../", import.meta.url));
const cli =
  process.env.SHOAL_CLI ??
  ["release", "dev", "asan"].map((build) => `${tree}build/${build}/client/shoal`).find(existsSync);
const skip = noNode || (cli && existsSync(cli) ? false : "SHOAL_CLI names no program and none is built");

await takeTurn();

/** Run the program; never rejects. */
function shoal(args, { env = {}, input } = {}) {
  return new Promise((resolve) => {
    const child = execFile(
      cli,
      args,
      {
        encoding: "buffer",
        maxBuffer: 64 << 20,
        timeout: 600_000,
        env: { PATH: process.env.PATH, HOME: "/nonexistent", SHOAL_URL: origin, SHOAL_API_KEY: apiKey, ...env },
      },
      (error, stdout, stderr) =>
        resolve({ code: error ? (error.code ?? -1) : 0, bytes: stdout, out: String(stdout), err: String(stderr) }),
    );
    child.stdin.on("error", () => {}); // it may have ended before it read: its code tells
    child.stdin.end(input ?? "");
  });
}

describe("cli", { ...suite, skip }, () => {
  let id;
  let folder;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "shoal-e2e-cli-"));
    const made = await shoal(["create", "-t", template, "-e", "GREETING=hi there", "--metadata", "by=cli", "--memory", "512", "--timeout", "600"]);
    assert.equal(made.code, 0, made.err);
    assert.match(made.out, /^sb-[a-z0-9]+\n$/);
    id = adopt(made.out.trim());
  });
  after(async () => {
    await cleanUp();
    await rm(folder, { recursive: true, force: true });
  });

  test("ls and get show it, as a table and as JSON", async () => {
    const table = await shoal(["ls"]);
    assert.match(table.out, /^ID +STATUS +TEMPLATE +CPUS +MEMORY +AGE\n/);
    assert.match(table.out, new RegExp(`^${id} +running +${template} `, "m"));
    const json = JSON.parse((await shoal(["ls", "--json"])).out);
    assert.ok(json.some((one) => one.sandboxID === id));
    assert.deepEqual(JSON.parse((await shoal(["get", id, "-o", "json"])).out).metadata, { by: "cli" });
    assert.ok((await shoal(["ls", "-q"])).out.split("\n").includes(id));
  });

  test("exec gives both outputs and the exit code", async () => {
    const done = await shoal(["exec", id, 'echo "$GREETING"; echo oops >&2; exit 7']);
    assert.deepEqual([done.code, done.out, done.err], [7, "hi there\n", "oops\n"]);
    assert.equal((await shoal(["exec", id, "--", "echo", "a  b", "--json"])).out, "a  b --json\n");
    assert.equal((await shoal(["exec", "-c", "/tmp", "-e", "X=1", id, 'pwd; echo $X'])).out, "/tmp\n1\n");
    assert.equal((await shoal(["exec", id, "no-such-program"])).code, 127);
    assert.equal((await shoal(["exec", id, "kill -9 $$"])).code, 137);
    assert.equal((await shoal(["exec", "--timeout", "1", id, "sleep 100"])).code, 124);
    const json = JSON.parse((await shoal(["exec", "--json", id, "echo x"])).out);
    assert.deepEqual([json.exitCode, json.stdout], [0, "x\n"]);
  });

  test("cp both ways, standard input and output, and into folders", async () => {
    const bytes = randomBytes(3_000_000);
    const [local, back] = [join(folder, "data.bin"), join(folder, "back.bin")];
    await writeFile(local, bytes);
    const up = await shoal(["cp", local, `${id}:/tmp/`]);
    assert.deepEqual([up.code, up.out, up.err], [0, "", ""]);
    assert.equal((await shoal(["cp", local, `${id}:/tmp`])).code, 0, "an existing folder without a slash");
    assert.equal((await shoal(["cp", `${id}:/tmp/data.bin`, back])).code, 0);
    assert.ok(bytes.equals(await readFile(back)));
    assert.ok(bytes.equals((await shoal(["cp", `${id}:/tmp/data.bin`, "-"])).bytes));
    assert.equal((await shoal(["cp", "-", `${id}:piped`], { input: "from a pipe" })).code, 0);
    assert.equal((await shoal(["exec", id, "cat /home/sandbox/piped"])).out, "from a pipe");
  });

  test("cp: what does not work says why", async () => {
    const missing = await shoal(["cp", `${id}:/no/such`, join(folder, "x")]);
    assert.equal(missing.code, 125);
    assert.match(missing.err, /HTTP 404/);
    assert.equal(existsSync(join(folder, "x")), false);
    const dir = await shoal(["cp", `${id}:/no/such/`, join(folder, "x")]);
    assert.equal(dir.code, 125);
    assert.match(dir.err, /no folder/);
    assert.equal(existsSync(join(folder, "x")), false);
  });

  test("exec -i: input to its end, every byte, outputs apart, exit code", async () => {
    const bytes = randomBytes(3_000_000);
    const echo = await shoal(["exec", "-i", id, "--", "sh", "-c", "cat; echo done >&2; exit 9"], { input: bytes });
    assert.deepEqual([echo.code, echo.err], [9, "done\n"]);
    assert.ok(bytes.equals(echo.bytes));
    assert.equal((await shoal(["exec", "-i", id, "wc -c"])).out, "0\n");
    // More than a session keeps, printed at once: all of it comes.
    const much = await shoal(["exec", "-i", id, "seq 1 300000"]);
    assert.deepEqual([much.code, much.out.length, much.err], [0, 1988895, ""]);
    assert.equal((await shoal(["exec", "-t", id, "test -t 1 && stty size"])).out, "24 80\r\n");
  });

  test("cp of folders, both ways", async () => {
    const [tree, back, second] = ["tree", "back", "second"].map((name) => join(folder, name));
    await mkdir(join(tree, "sub", "empty"), { recursive: true });
    await writeFile(join(tree, "sub", "data.bin"), randomBytes(2_000_000));
    await writeFile(join(tree, "n\u00e4me %20 b"), "unicode");
    await writeFile(join(tree, "run"), "#!/bin/sh\necho ran\n", { mode: 0o755 });
    await symlink("run", join(tree, "link"));
    await symlink("/no/where", join(tree, "broken"));
    const same = (a, b) => execFileSync("diff", ["-r", "--no-dereference", a, b]);
    assert.deepEqual(await shoal(["cp", tree, `${id}:folders/new`]).then((r) => [r.code, r.out, r.err]), [0, "", ""]);
    assert.equal((await shoal(["exec", id, "folders/new/link; stat -c '%U %a' folders/new/run; ls -A folders"])).out, "ran\nsandbox 755\nnew\n");
    assert.deepEqual(await shoal(["cp", `${id}:folders/new`, back]).then((r) => [r.code, r.out, r.err]), [0, "", ""]);
    same(tree, back);
    // Into a folder that is there: under its name, or with /. what is in it.
    assert.equal((await shoal(["cp", tree, `${id}:folders`])).code, 0);
    await mkdir(second);
    assert.equal((await shoal(["cp", `${id}:folders/tree/.`, second])).code, 0);
    same(tree, second);
    // Where only root may: like a file.
    assert.deepEqual(await shoal(["cp", tree, `${id}:/root/tree`]).then((r) => [r.code, r.err]), [0, ""]);
    assert.deepEqual(await shoal(["cp", `${id}:/root/tree`, second]).then((r) => [r.code, r.err]), [0, ""]);
    same(tree, join(second, "tree"));
    assert.equal((await shoal(["exec", id, "sudo -n stat -c %U /root/tree/run"])).out, "root\n");
    // What is no file: refused, and nothing of the rest arrives.
    assert.equal((await shoal(["exec", id, "mkdir pipes && touch pipes/a && mkfifo pipes/p"])).code, 0);
    const pipe = await shoal(["cp", `${id}:pipes`, join(folder, "pipes")]);
    assert.equal(pipe.code, 125);
    assert.match(pipe.err, /no file, folder or link/);
    assert.equal(existsSync(join(folder, "pipes")), false);
  });

  test("files ls, mkdir, rm", async () => {
    assert.equal((await shoal(["files", "mkdir", id, "/tmp/d/e"])).code, 0);
    assert.match((await shoal(["files", "ls", id, "/tmp/d"])).out, /^dir +- +e$/m);
    assert.equal((await shoal(["files", "rm", id, "/tmp/d"])).code, 0);
    assert.equal((await shoal(["files", "ls", id, "/tmp/d"])).code, 125);
  });

  test("status, timeout, and errors with a hint", async () => {
    const status = await shoal(["status"]);
    assert.equal(status.code, 0, status.err);
    assert.match(status.out, /ready/);
    assert.equal((await shoal(["timeout", id, "1200"])).code, 0);
    const unknown = await shoal(["get", "sb-00000000"]);
    assert.equal(unknown.code, 125);
    assert.match(unknown.err, /sandbox not found \(HTTP 404, request .+\)\nhint: /);
    const key = await shoal(["ls"], { env: { SHOAL_API_KEY: "osb_wrong" } });
    assert.match(key.err, /HTTP 401[\s\S]*hint: set SHOAL_API_KEY/);
    const bad = await shoal(["create", "-t", "no-such-template"]);
    assert.match(bad.err, /no-such-template/);
    assert.equal((await shoal(["create", "-t", template, "--cpus", "64"])).code, 125);
  });

  test("a dead server in the list is passed over", async () => {
    const got = await shoal(["get", id], { env: { SHOAL_URL: `http://127.0.0.1:1,${origin}` } });
    assert.equal(got.code, 0, got.err);
  });

  test("hibernate, what wakes, reboot", async () => {
    const write = await shoal(["exec", id, "echo before > /home/sandbox/m; (while :; do date > /tmp/t; sleep 0.2; done) >/dev/null 2>&1 & echo $! > /home/sandbox/pid"]);
    assert.equal(write.code, 0, write.err);
    const done = await shoal(["hibernate", id]);
    assert.deepEqual([done.code, done.out, done.err], [0, "", ""]);
    const again = JSON.parse((await shoal(["hibernate", id, "--json"])).out);
    assert.deepEqual([again.sandboxID, again.status], [id, "hibernated"]);
    assert.ok(again.sizeBytes > 0);
    assert.match((await shoal(["ls"])).out, new RegExp(`^${id} +hibernated +${template} `, "m"));
    assert.match((await shoal(["get", id])).out, /status +hibernated/);
    assert.equal((await shoal(["reboot", id])).code, 125, "not running");
    assert.match((await shoal(["get", id])).out, /status +hibernated/, "looking does not wake");
    const alive = await shoal(["exec", id, 'cat /home/sandbox/m; kill -0 "$(cat /home/sandbox/pid)" && echo alive']);
    assert.deepEqual([alive.code, alive.out], [0, "before\nalive\n"]);
    assert.equal((await shoal(["hibernate", id])).code, 0);
    const woken = JSON.parse((await shoal(["wake", "--timeout", "900", "--json", id])).out);
    assert.deepEqual([woken.status, woken.timeout, woken.coldWoken], ["running", 900, undefined]);
    assert.deepEqual(await shoal(["wake", id]).then((r) => [r.code, r.out, r.err]), [0, "", ""], "it runs already");
    assert.equal((await shoal(["hibernate", id])).code, 0);
    assert.equal((await shoal(["cp", `${id}:m`, "-"])).out, "before\n", "a file call wakes too");
    const bootId = async () => (await shoal(["exec", id, "cat /proc/sys/kernel/random/boot_id"])).out;
    for (const args of [[], ["--hard"]]) {
      const boot = await bootId();
      assert.equal((await shoal(["exec", id, "sync"])).code, 0);
      assert.deepEqual(await shoal(["reboot", ...args, id]).then((r) => [r.code, r.err]), [0, ""]);
      assert.notEqual(await bootId(), boot, "another boot");
      assert.equal((await shoal(["exec", id, "cat /home/sandbox/m"])).out, "before\n", "files stay");
    }
  });

  test("checkpoint, restore, fork, by name and by id", async () => {
    const made = await shoal(["checkpoint", "create", "--wait", id, "first one"]);
    assert.equal(made.code, 0, made.err);
    const cid = made.out.trim();
    assert.match(cid, /^[0-9a-f]{8}-[0-9a-f-]{27}$/);
    assert.match((await shoal(["checkpoint", "ls", id])).out, new RegExp(`^${cid} +first one +full +ready +[0-9.]+ [KMG]iB `, "m"));
    const twice = await shoal(["checkpoint", "create", id, "first one"]);
    assert.equal(twice.code, 125);
    assert.match(twice.err, /already exists \(HTTP 409/);

    assert.equal((await shoal(["exec", id, "echo after > /home/sandbox/m; touch /home/sandbox/new"])).code, 0);
    assert.deepEqual(await shoal(["restore", id, "first one"]).then((r) => [r.code, r.out, r.err]), [0, "", ""]);
    assert.equal((await shoal(["exec", id, "cat /home/sandbox/m; test -e /home/sandbox/new || echo none"])).out, "before\nnone\n");

    const one = await shoal(["fork", "-e", "GREETING=other", "--timeout", "600", id, "first one"]);
    assert.equal(one.code, 0, one.err);
    const fork = adopt(one.out.trim());
    assert.notEqual(fork, id);
    assert.equal((await shoal(["exec", fork, 'cat /home/sandbox/m; echo "$GREETING"'])).out, "before\nother\n");
    assert.match((await shoal(["get", fork])).out, new RegExp(`^checkpoint +${cid}$`, "m"));
    const two = await shoal(["fork", "-n", "2", "--timeout", "600", cid]);
    assert.equal(two.code, 0, two.err);
    const ids = two.out.trim().split("\n").map(adopt);
    assert.equal(new Set([id, fork, ...ids]).size, 4);
    assert.equal((await shoal(["kill", fork, ...ids])).code, 0);
  });

  test("checkpoint --disk-only, --keep, rm; what does not exist", async () => {
    for (const name of ["d1", "d2", "d3"]) {
      const made = await shoal(["checkpoint", "create", "--disk-only", "--wait", "--keep", "2", id, name]);
      assert.equal(made.code, 0, made.err);
    }
    const list = JSON.parse((await shoal(["checkpoint", "ls", "--json", id])).out);
    assert.deepEqual(list.map((one) => [one.name, one.kind]), [["d3", "disk_only"], ["d2", "disk_only"], ["first one", "full"]]);
    assert.equal((await shoal(["checkpoint", "rm", id, "d2", list[0].id])).code, 0);
    assert.equal((await shoal(["checkpoint", "ls", "-q", id])).out, `${list[2].id}\n`);
    const gone = await shoal(["restore", id, "d2"]);
    assert.equal(gone.code, 125);
    assert.match(gone.err, /has no checkpoint "d2"/);
    assert.match((await shoal(["fork", list[0].id])).err, /checkpoint not found \(HTTP 404/);
    assert.match((await shoal(["fork", "cp-1"])).err, /HTTP 400/);
  });

  test("secret: stores, values that are never shown, and a sandbox with their tokens", async () => {
    const name = `cli-${randomBytes(4).toString("hex")}`;
    const value = `sk-${randomBytes(12).toString("hex")}`;
    const made = await shoal(["secret", "store", "create", name]);
    assert.equal(made.code, 0, made.err);
    try {
      assert.match((await shoal(["secret", "store", "create", name])).err, /already exists \(HTTP 409/);
      const set = await shoal(["secret", "set", name, "KEY", "--allow", "api.example.com"], { input: `${value}\n` });
      assert.deepEqual([set.code, set.out, set.err], [0, "", ""]);
      const list = await shoal(["secret", "ls", "--json", made.out.trim()]);
      assert.deepEqual(JSON.parse(list.out).map((one) => [one.name, one.allowedHosts]), [["KEY", ["api.example.com"]]]);
      assert.ok(!list.out.includes(value));
      assert.match((await shoal(["secret", "store", "ls"])).out, new RegExp(`^${name} +${made.out.trim()} +any `, "m"));
      const box = await shoal(["create", "-t", template, "--memory", "512", "--timeout", "600", "--secret-store", name]);
      assert.equal(box.code, 0, box.err);
      assert.match((await shoal(["exec", adopt(box.out.trim()), 'echo "$KEY"'])).out, /^osb_sealed_[0-9a-f]{32}\n$/);
      assert.equal((await shoal(["kill", box.out.trim()])).code, 0);
      assert.match((await shoal(["create", "--secret-store", `${name}-not`])).err, /secret store not found.*HTTP 400/);
      assert.equal((await shoal(["secret", "rm", name, "KEY"])).code, 0);
      assert.match((await shoal(["secret", "rm", name, "KEY"])).err, /HTTP 404/);
      assert.equal((await shoal(["secret", "store", "update", name, "--name", `${name}-2`])).code, 0);
      assert.match((await shoal(["secret", "ls", name])).err, /there is no such secret store/);
    } finally {
      await shoal(["secret", "store", "rm", made.out.trim()]);
    }
    assert.ok(!(await shoal(["secret", "store", "ls", "-q"])).out.includes(name));
  });

  test("kill ends it, twice is fine", async () => {
    assert.deepEqual(await shoal(["kill", id]).then((r) => [r.code, r.out, r.err]), [0, "", ""]);
    assert.equal((await shoal(["rm", id])).code, 0);
    assert.match((await shoal(["get", id])).out, /status +stopped/);
    const gone = await shoal(["exec", id, "true"]);
    assert.equal(gone.code, 125);
    assert.match(gone.err, /HTTP 410/);
    assert.match((await shoal(["hibernate", id])).err, /sandbox is not running[^]*HTTP 400/);
    const late = await shoal(["fork", "--timeout", "60", id, "first one"]);
    assert.equal(late.code, 0, "a checkpoint outlives its sandbox: " + late.err);
    adopt(late.out.trim());
    assert.equal((await shoal(["checkpoint", "rm", id, "first one"])).code, 0);
    assert.equal((await shoal(["exec", late.out.trim(), "cat /home/sandbox/m"])).out, "before\n");
  });
});
