// The program `shoal` (SHOAL_CLI) against a running node.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
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
    const dir = await shoal(["cp", `${id}:/etc`, join(folder, "x")]);
    assert.equal(dir.code, 125);
    assert.match(dir.err, /director/);
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

  test("kill ends it, twice is fine", async () => {
    assert.deepEqual(await shoal(["kill", id]).then((r) => [r.code, r.out, r.err]), [0, "", ""]);
    assert.equal((await shoal(["rm", id])).code, 0);
    assert.match((await shoal(["get", id])).out, /status +stopped/);
    const gone = await shoal(["exec", id, "true"]);
    assert.equal(gone.code, 125);
    assert.match(gone.err, /HTTP 410/);
  });
});
