// Images, named snapshots and templates by name (contract 8, 9; tests 65 to 75).
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { mkdtempSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, test } from "node:test";
import * as sdk from "@opencomputer/sdk/node";
import {
  adopt, apiKey, apiUrl, call, cleanUp, long, Sandbox, sh, suite, takeTurn, template,
} from "./lib/shoal.mjs";

await takeTurn();

const { Image, Snapshots } = sdk;
const unique = (name) => `${name}-${randomUUID().slice(0, 8)}`;
const image = () => {
  const manifest = { ...Image.base().toJSON(), base: template, runtimeMemoryMB: 1024 };
  return new Image(manifest).builderMemory(1024);
};
const create = async (options) => {
  const box = await Sandbox.create({ apiKey, apiUrl, timeout: 600, memoryMB: 1024, ...options });
  adopt(box.sandboxId);
  return box;
};
const snapshots = new Snapshots({ apiKey, apiUrl });
/** What a command says, without blanks around it. */
const told = async (box, command) => (await sh(box, command)).trim();
const print = (text) => process.stdout.write(`# ${text}\n`);

async function timed(what) {
  const from = process.hrtime.bigint();
  const value = await what();
  return [value, Number(process.hrtime.bigint() - from) / 1e6];
}

describe("images", suite, () => {
  afterEach(cleanUp);

  test("every kind of step, then a cache hit", async () => {
    const dir = mkdtempSync(join(tmpdir(), "shoal-e2e-"));
    mkdirSync(join(dir, "sub dir"));
    writeFileSync(join(dir, "sub dir", "a.txt"), "from a folder");
    writeFileSync(join(dir, "b.bin"), Buffer.from([0, 255, 10, 13]));
    const mark = unique("mark");
    const begin = () => (long ? image().aptInstall(["jq"]) : image().runCommands("echo no network wanted"));
    const built = begin()
      .runCommands(`echo ${mark} > /home/sandbox/mark`, "sudo touch /root/by-sudo")
      .env({ PROJECT_ROOT: "/opt/my app", QUOTED: `it's "$HOME" \`x\`` })
      .workdir("/opt/my app")
      .addFile("/opt/my app/config.json", '{"key": [1, 2]}')
      .addLocalDir(dir, "/opt/my app/tree")
      .runCommands("pwd > where", "chmod +x config.json");
    rmSync(dir, { recursive: true });

    const logs = [];
    const [first, cold] = await timed(() => create({ image: built, onBuildLog: (line) => logs.push(line) }));
    assert.ok(logs.some((line) => /Step 1\/7/.test(line)), logs.join("\n"));
    if (long) assert.equal(await told(first, "jq -c .key < config.json"), "[1,2]");
    assert.equal(await told(first, "cat /home/sandbox/mark"), mark);
    assert.equal(await told(first, "pwd; cat where"), "/opt/my app\n/opt/my app");
    assert.equal(await told(first, 'printf "%s|%s" "$PROJECT_ROOT" "$QUOTED"'), `/opt/my app|it's "$HOME" \`x\``);
    assert.equal(await told(first, `bash -lc 'printf %s "$QUOTED"'`), `it's "$HOME" \`x\``);
    assert.equal(await told(first, "cat 'tree/sub dir/a.txt'"), "from a folder");
    assert.equal(await told(first, "od -An -tx1 tree/b.bin"), "00 ff 0a 0d");
    assert.equal(await told(first, "stat -c %u:%g . config.json tree/b.bin; touch mine"), "1000:1000\n1000:1000\n1000:1000");
    assert.equal(await told(first, "sudo ls /root/by-sudo"), "/root/by-sudo");

    const again = [];
    const [second, warm] = await timed(() => create({ image: built, onBuildLog: (line) => again.push(line) }));
    assert.ok(again.some((line) => /found in cache/.test(line)), again.join("\n"));
    assert.notEqual(second.sandboxId, first.sandboxId);
    assert.equal(await told(second, "cat /home/sandbox/mark"), mark);
    print(`build ${Math.round(cold)} ms, second create ${Math.round(warm)} ms: ${(cold / warm).toFixed(1)} times faster`);

    // the same beginning is not built again
    const lines = [];
    const third = await create({
      image: begin().runCommands("echo other > /home/sandbox/other"), onBuildLog: (line) => lines.push(line),
    });
    assert.ok(lines.some((line) => / CACHED/.test(line)), lines.join("\n"));
    assert.equal(await told(third, "cat /home/sandbox/other"), "other");
  });

  test("a failing step ends the build and is named", async () => {
    const bad = image().runCommands(`echo why ${unique("x")} >&2`, "exit 9");
    await assert.rejects(create({ image: bad }), /Build failed: .*step 0 \(run\) failed \(exit 9\): why/);
    await assert.rejects(create({ image: bad }), /Build failed: .*exit 9/);
  });

  test("what is wrong with a manifest is a status", async () => {
    for (const [steps, error] of [
      [[{ type: "docker" }], /unknown step type/],
      [[{ type: "add_dir", args: { path: "/a", files: [{ relativePath: "../b", content: "" }] } }], /without/],
      [[{ type: "workdir", args: { path: "relative" } }], /absolute/],
      [[{ type: "add_file", args: { path: "/a", content: "%" } }], /base64/],
    ]) {
      const reply = await call("POST", "/sandboxes", { body: { image: { base: template, steps } } });
      assert.equal(reply.status, 400, reply.text);
      assert.match(reply.json.error, error);
    }
  });

  test("two at once: one build, two sandboxes", async () => {
    const content = image().runCommands(`echo ${unique("two")} >/home/sandbox/mark`);
    const boxes = await Promise.all([0, 1].map(() => create({ image: content })));
    assert.notEqual(boxes[0].sandboxId, boxes[1].sandboxId);
    const ids = await Promise.all(boxes.map(async (box) => (await call("GET", `/sandboxes/${box.sandboxId}`)).json.fromCheckpointId));
    assert.equal(ids[0], ids[1], "of one image");
  });

  test("packages as the package managers take them (template base)", { skip: long ? false : "takes long: set SHOAL_TEST_LONG" }, async () => {
    const content = Image.base().builderMemory(2048).aptInstall(["cowsay sl"]).pipInstall(["requests>=2.28", "--upgrade six"])
      .env({ PRICE: `5$ "each" 'or' more` }).runCommands("python3 -c 'import six, requests; print(requests.__version__)' >/home/sandbox/version");
    const box = await create({ image: content });
    const [major, minor] = (await told(box, "cat /home/sandbox/version")).split(".").map(Number);
    assert.ok(major > 2 || minor >= 28, `${major}.${minor}`);
    assert.equal(await told(box, "python3 -c 'import os, requests; print(os.environ[\"PRICE\"])'"), `5$ "each" 'or' more`);
    assert.match(await told(box, "/usr/games/cowsay built"), /built/);
    assert.equal(await told(box, "ls '/home/sandbox/=2.28' 2>/dev/null || echo none"), "none", "no shell read it");
  });

  test("a step that says nothing for 40 s: the bytes of the events", { skip: long ? false : "takes long: set SHOAL_TEST_LONG" }, async () => {
    const steps = [{ type: "run", args: { commands: [`sleep 40; echo ${unique("silent")}`] } }];
    const reply = await call("POST", "/sandboxes", {
      headers: { Accept: "text/event-stream" },
      body: { memoryMB: 1024, image: { base: template, builderMemoryMB: 1024, steps } },
    });
    assert.equal(reply.status, 200);
    assert.match(reply.headers.get("content-type"), /^text\/event-stream/);
    assert.ok(!reply.text.includes("\r"), "LF alone");
    assert.ok(reply.text.endsWith("\n\n"));
    assert.ok(reply.text.split(": keepalive\n\n").length > 2, reply.text);
    const events = reply.text.slice(0, -2).split("\n\n").filter((event) => event !== ": keepalive");
    for (const event of events) assert.match(event, /^event: (build_log|result)\ndata: \{.*\}$/);
    const last = JSON.parse(events.at(-1).split("\ndata: ")[1]);
    adopt(last.sandboxID);
    assert.equal(last.status, "running");
    assert.equal(events.filter((event) => event.startsWith("event: result")).length, 1);
  });

  test("snapshots by name", async () => {
    const name = unique("snap");
    const content = image().runCommands(`echo ${name} > /home/sandbox/name`);
    const made = await snapshots.create({ name, image: content });
    assert.equal(made.status, "ready");
    assert.match(made.contentHash, /^[0-9a-f]{64}$/);
    await assert.rejects(snapshots.create({ name, image: content }), /409/);
    assert.ok((await snapshots.list()).some((one) => one.name === name));
    assert.deepEqual((await snapshots.get(name)).manifest, content.toJSON());

    const box = await create({ snapshot: name, memoryMB: undefined });
    assert.equal(await told(box, "cat /home/sandbox/name"), name);
    const byTemplate = await create({ template: name });
    assert.equal(await told(byTemplate, "cat /home/sandbox/name"), name);

    await snapshots.delete(name);
    await snapshots.delete(name);
    await assert.rejects(snapshots.get(name), /404/);
    await assert.rejects(create({ snapshot: name }), /not found/);
    assert.equal(await told(box, "cat /home/sandbox/name"), name, "what was made from it goes on");
    await box.hibernate();
    await box.wake();
    assert.equal(await told(box, "cat /home/sandbox/name"), name);
  });
});
