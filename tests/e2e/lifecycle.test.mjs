// Create, get, list, kill, timeout (contract tests 7 to 16 and 18).
import assert from "node:assert/strict";
import { afterEach, describe, test } from "node:test";
import {
  adopt, api, apiKey, apiUrl, call, cleanUp, createBox, getBox, origin, Sandbox, sh, sleep, suite,
  takeTurn, template, waitStatus,
} from "./lib/shoal.mjs";

await takeTurn();

describe("lifecycle", suite, () => {
  afterEach(cleanUp);

  test("a create without options answers with everything clients need", async () => {
    const reply = await call("POST", "/sandboxes", { body: { templateID: template } });
    assert.equal(reply.status, 201, reply.text);
    const box = reply.json;
    adopt(box.sandboxID);
    assert.match(box.sandboxID, /^sb-[a-z0-9]+$/);
    assert.equal(box.status, "running");
    assert.equal(box.templateID, template);
    for (const field of ["token", "connectURL", "sandboxDomain", "workerID", "region"]) {
      assert.equal(typeof box[field], "string", field);
    }
    assert.ok(box.token && box.sandboxDomain);
    assert.match(box.connectURL, /^https?:\/\/.*[^/]\/api$/);
    for (const field of ["cpuCount", "memoryMB", "diskMB"]) {
      assert.ok(Number.isInteger(box[field]) && box[field] > 0, field);
    }
    assert.deepEqual(box.metadata, {});
    // Omitted timeout means 300 s.
    const span = Date.parse(box.endAt) - Date.parse(box.startedAt);
    assert.ok(span > 200_000 && span < 400_000, `endAt - startedAt = ${span} ms`);
    // Ready at once.
    const run = await call("POST", `/sandboxes/${box.sandboxID}/exec/run`, { body: { cmd: "true" } });
    assert.equal(run.status, 200, run.text);
    assert.equal(run.json.exitCode, 0);
    // The default memory is much; the next test needs it.
    assert.equal((await call("DELETE", `/sandboxes/${box.sandboxID}`)).status, 204);
  });

  test("a create from base through the SDK defaults runs at once (template base)", async () => {
    const box = await Sandbox.create({ apiUrl, apiKey });
    adopt(box.sandboxId);
    assert.equal(box.status, "running");
    assert.equal((await getBox(box.sandboxId)).templateID, "base");
    assert.match(await sh(box, "uname -s"), /Linux/);
    await box.kill();
  });

  test("cpuCount and memoryMB are what the guest has", async () => {
    const box = await createBox({ cpuCount: 2, memoryMB: 1024 });
    const info = await getBox(box.sandboxId);
    assert.equal(info.cpuCount, 2);
    assert.equal(info.memoryMB, 1024);
    assert.equal((await sh(box, "nproc")).trim(), "2");
    const totalKib = Number((await sh(box, "awk '/^MemTotal/ {print $2}' /proc/meminfo")).trim());
    assert.ok(totalKib > 850 * 1024 && totalKib <= 1024 * 1024, `MemTotal ${totalKib} KiB`);
  });

  test("envs are in every command, metadata comes back", async () => {
    const envs = { PLAIN: "x", SPACED: "a b  c", QUOTED: `"'$HOME\\n`, UNICODE: "grüße ☃", EMPTY: "" };
    const metadata = { owner: "e2e", "key with blank": "ü" };
    const box = await createBox({ envs, metadata });
    assert.deepEqual((await getBox(box.sandboxId)).metadata, metadata);
    for (const [name, value] of Object.entries(envs)) {
      assert.equal(await sh(box, `printf %s "$${name}"`), value, name);
    }
    // A command's own value wins, and only for that command.
    assert.equal(await sh(box, 'printf %s "$PLAIN"', { env: { PLAIN: "mine" } }), "mine");
    assert.equal(await sh(box, 'printf %s "$PLAIN"'), "x");
  });

  test("unknown fields are ignored", async () => {
    const reply = await call("POST", "/sandboxes", {
      body: { templateID: template, memoryMB: 512, burst: true, sandboxFamily: "x", alias: "y", nonsense: [1, { a: 2 }] },
    });
    assert.equal(reply.status, 201, reply.text);
    adopt(reply.json.sandboxID);
  });

  test("get and list show a new sandbox; kill ends it, twice is fine", async () => {
    const older = await createBox();
    const box = await createBox();
    const listed = await call("GET", "/sandboxes");
    assert.equal(listed.status, 200);
    assert.ok(Array.isArray(listed.json));
    const place = (one) => listed.json.findIndex(({ sandboxID }) => sandboxID === one.sandboxId);
    assert.ok(place(box) >= 0 && place(box) < place(older), "the newest comes first");
    const info = await getBox(box.sandboxId);
    assert.deepEqual(info.tags, {});
    assert.equal(info.tagsLastUpdatedAt, null);
    const again = await Sandbox.connect(box.sandboxId, { apiUrl, apiKey });
    assert.equal(again.status, "running");
    assert.equal(await again.isRunning(), true);

    await box.kill();
    assert.equal(box.status, "stopped");
    assert.equal(await again.isRunning(), false);
    await again.kill();
    const reply = await call("GET", `/sandboxes/${box.sandboxId}`);
    assert.equal(reply.status, 200, "an ended sandbox still answers");
    assert.equal(reply.json.status, "stopped");
    const after = await call("GET", "/sandboxes");
    assert.ok(!after.json.some((one) => one.sandboxID === box.sandboxId), "it left the list");
  });

  test("calls on an ended sandbox say 410", async () => {
    const box = await createBox();
    await box.kill();
    const path = `/sandboxes/${box.sandboxId}`;
    for (const [method, below, body] of [
      ["POST", "/exec/run", { cmd: "true" }],
      ["POST", "/exec/run-async", { cmd: "true" }],
      ["GET", "/files?path=/etc/hostname"],
      ["PUT", "/files?path=/tmp/x", "text"],
      ["GET", "/files/list?path=/"],
    ]) {
      const reply = await call(method, `${path}${below}`, { body });
      assert.equal(reply.status, 410, `${method} ${below}: ${reply.status} ${reply.text}`);
      assert.equal(typeof reply.json?.error, "string");
    }
    await assert.rejects(box.exec.run("true"), /410/);
  });

  test("an id nobody has: connect throws, isRunning is false", async () => {
    await assert.rejects(Sandbox.connect("sb-00000000", { apiUrl, apiKey }), /404/);
    const reply = await call("GET", "/sandboxes/sb-00000000");
    assert.equal(reply.status, 404);
    assert.match(reply.json.error, /sandbox not found/);
  });

  test("the base address works with and without /api and slashes; data calls also at the root", async () => {
    const box = await createBox();
    for (const address of [origin, `${origin}/`, `${origin}//`, api, `${api}/`]) {
      const same = await Sandbox.connect(box.sandboxId, { apiUrl: address, apiKey });
      assert.equal(await same.isRunning(), true, address);
    }
    const reply = await call("POST", `${origin}/sandboxes/${box.sandboxId}/exec/run`, {
      body: { cmd: "echo root" },
    });
    assert.equal(reply.status, 200, reply.text);
    assert.equal(reply.json.stdout, "root\n");
  });

  test("the sandbox token opens its own sandbox only", async () => {
    const [one, two] = [await createBox(), await createBox()];
    const { token } = await getBox(one.sandboxId);
    const body = { cmd: "echo in" };
    const run = (id, headers) => call("POST", `/sandboxes/${id}/exec/run`, { body, headers, key: false });
    const bearer = { Authorization: `Bearer ${token}` };
    const own = await run(one.sandboxId, bearer);
    assert.equal(own.status, 200, own.text);
    assert.equal((await run(one.sandboxId, { "X-API-Key": token })).status, 200, "in the key's place");
    assert.equal((await run(two.sandboxId, bearer)).status, 403);
    const bad = await run(one.sandboxId, { Authorization: `Bearer ${token.slice(0, -3)}xyz` });
    assert.equal(bad.status, 401, bad.text);
    assert.equal((await call("POST", "/sandboxes", { body: {}, headers: bearer, key: false })).status >= 401, true);
  });

  test("setTimeout is taken, 0 disables, and connect sees the new end", async () => {
    const box = await createBox({ timeout: 300 });
    await box.setTimeout(3600);
    const info = await getBox(box.sandboxId);
    assert.ok(Date.parse(info.endAt) - Date.now() > 3000_000, info.endAt);
    await box.setTimeout(0);
    assert.ok(!(await getBox(box.sandboxId)).endAt, "no end without a timeout");
    await assert.rejects(box.setTimeout(-1), /400/);
  });

  test("an idle sandbox hibernates, and looking at it does not keep it running", async () => {
    const box = await createBox({ timeout: 4 });
    await waitStatus(box.sandboxId, "hibernated");
    assert.equal(await box.isRunning(), false);
    assert.equal(await sh(box, "echo awake"), "awake\n");
    assert.equal(await box.isRunning(), true);
  });

  test("a running command keeps a sandbox alive beyond its timeout", async () => {
    const box = await createBox({ timeout: 5 });
    const reply = await call("POST", `/sandboxes/${box.sandboxId}/exec/run`, {
      body: { cmd: "sleep 15; echo alive", timeout: 60 },
    });
    assert.equal(reply.json?.stdout, "alive\n", reply.text);
    assert.equal((await getBox(box.sandboxId)).status, "running");
  });

  test("traffic keeps a sandbox alive beyond its timeout", async () => {
    const box = await createBox({ timeout: 8 });
    for (let i = 0; i < 8; i++) {
      await sh(box, "true");
      await sleep(2500);
    }
    assert.equal((await getBox(box.sandboxId)).status, "running");
  });

  test("five sandboxes at once", async () => {
    const made = await Promise.all(
      [0, 1, 2, 3, 4].map((i) => createBox({ memoryMB: 512, envs: { NUMBER: String(i) } })),
    );
    assert.equal(new Set(made.map((box) => box.sandboxId)).size, 5);
    const numbers = await Promise.all(made.map((box) => sh(box, "echo $NUMBER; hostname")));
    assert.deepEqual(numbers.map((text) => text.split("\n")[0]), ["0", "1", "2", "3", "4"]);
    assert.equal(new Set(numbers.map((text) => text.split("\n")[1])).size, 5, "host names differ");
    await Promise.all(made.map((box) => box.kill()));
    for (const box of made) assert.equal(await box.isRunning(), false);
  });
});
