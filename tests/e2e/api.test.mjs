// What a server must refuse, and how (contract tests 1 to 6, 11, 13, 16, 18, 24, 26, 33, 46).
import assert from "node:assert/strict";
import { request } from "node:http";
import { after, before, describe, test } from "node:test";
import {
  api, apiKey, assertRefused, call, cleanUp, createBox, origin, suite, takeTurn, template,
} from "./lib/shoal.mjs";

await takeTurn();

describe("api: keys and envelope", suite, () => {
  for (const path of ["/sandboxes", "/workers"]) {
    test(`GET ${path} without, with empty, with unknown and with misplaced key`, async () => {
      assertRefused(await call("GET", path, { key: false }), 401);
      assertRefused(await call("GET", path, { key: "" }), 401);
      assertRefused(await call("GET", path, { key: "osb_nobody_has_this_key" }), 401);
      assertRefused(await call("GET", path, { key: "x".repeat(3000) }), 401);
      const bearer = { Authorization: `Bearer ${apiKey}` };
      assertRefused(await call("GET", path, { key: false, headers: bearer }), [401, 403]);
      assert.equal((await call("GET", path)).status, 200);
    });
  }

  test("every call below a sandbox wants a key too", async () => {
    for (const [method, below] of [
      ["GET", ""], ["DELETE", ""], ["POST", "/timeout"], ["POST", "/exec/run"],
      ["POST", "/exec/run-async"], ["GET", "/exec"], ["GET", "/exec/x/result"],
      ["POST", "/exec/x/kill"], ["GET", "/files?path=/etc/passwd"], ["PUT", "/files?path=/x"],
      ["DELETE", "/files?path=/x"], ["GET", "/files/list?path=/"], ["POST", "/files/mkdir?path=/x"],
    ]) {
      const reply = await call(method, `/sandboxes/sb-00000000${below}`, { key: false });
      assertRefused(reply, 401);
    }
  });

  test("health needs no key", async () => {
    for (const path of ["/health", "/healthz", "/readyz"]) {
      const reply = await call("GET", `${origin}${path}`, { key: false });
      assert.equal(reply.status, 200, path);
      assert.equal(typeof reply.json?.status, "string", path);
    }
  });

  test("unknown paths are 404, wrong methods 405, both JSON", async () => {
    assertRefused(await call("GET", "/x"), 404);
    assertRefused(await call("GET", "/"), 404);
    assertRefused(await call("GET", `${origin}/nothing/here`), 404);
    assertRefused(await call("POST", "/sandboxes/sb-00000000/unknown", { body: {} }), 404);
    for (const [method, path] of [
      ["PATCH", "/sandboxes"], ["DELETE", "/sandboxes"], ["PUT", "/sandboxes/sb-00000000"],
      ["GET", "/sandboxes/sb-00000000/timeout"], ["GET", "/sandboxes/sb-00000000/exec/run"],
      ["DELETE", "/sandboxes/sb-00000000/exec/run-async"],
      ["PATCH", "/sandboxes/sb-00000000/files?path=/x"],
      ["DELETE", "/sandboxes/sb-00000000/files/list?path=/x"],
    ]) {
      const reply = await call(method, path);
      assert.equal(reply.status, 405, `${method} ${path}: ${reply.status} ${reply.text}`);
      assertRefused(reply, 405);
    }
  });

  test("browsers of other origins may call, and every answer has a request id", async () => {
    const reply = await call("GET", "/sandboxes", { headers: { Origin: "http://elsewhere.test" } });
    assert.equal(reply.headers.get("access-control-allow-origin"), "*");
    assert.ok(reply.headers.get("x-request-id"));
    const preflight = await call("OPTIONS", "/sandboxes", {
      key: false,
      headers: {
        Origin: "http://elsewhere.test",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "x-api-key, content-type",
      },
    });
    assert.ok(preflight.status >= 200 && preflight.status < 300, String(preflight.status));
    assert.match(preflight.headers.get("access-control-allow-headers") ?? "", /x-api-key/i);
  });
});

describe("api: bad creates", suite, () => {
  after(cleanUp);

  const bad = [
    ["cpuCount 64", { cpuCount: 64 }], ["cpuCount 0", { cpuCount: 0 }],
    ["cpuCount -1", { cpuCount: -1 }], ["cpuCount 1.5", { cpuCount: 1.5 }],
    ["cpuCount text", { cpuCount: "2" }], ["memoryMB 1000000", { memoryMB: 1000000 }],
    ["memoryMB 1", { memoryMB: 1 }], ["memoryMB text", { memoryMB: "1024" }],
    ["timeout -1", { timeout: -1 }], ["timeout text", { timeout: "300" }],
    ["timeout 1.5", { timeout: 1.5 }], ["diskMB 1", { diskMB: 1 }],
    ["diskMB 10000000", { diskMB: 10000000 }], ["envs array", { envs: ["a"] }],
    ["envs number", { envs: { A: 1 } }], ["metadata text", { metadata: "x" }],
    ["metadata nested", { metadata: { a: { b: "c" } } }], ["templateID number", { templateID: 7 }],
    ["image and snapshot", { image: { steps: [] }, snapshot: "x" }],
  ];
  for (const [name, fields] of bad) {
    test(`${name} is 400`, async () => {
      assertRefused(await call("POST", "/sandboxes", { body: { templateID: template, ...fields } }), 400);
    });
  }

  test("numbers beyond any range are 400", async () => {
    for (const value of ["1e308", "99999999999999999999", "-9223372036854775809", "4294967298"]) {
      for (const field of ["cpuCount", "memoryMB", "diskMB", "timeout"]) {
        const body = `{"templateID":"${template}","${field}":${value}}`;
        const reply = await call("POST", "/sandboxes", { body });
        assert.equal(reply.status, 400, `${body}: ${reply.status} ${reply.text}`);
      }
    }
  });

  test("an unknown template is 404 and named", async () => {
    const reply = await call("POST", "/sandboxes", { body: { templateID: "no-such-template" } });
    assertRefused(reply, 404, /no-such-template/);
    for (const templateID of ["../../etc", "a/b", "x".repeat(500), "..", "base\n"]) {
      assertRefused(await call("POST", "/sandboxes", { body: { templateID } }), [400, 404]);
    }
  });

  test("an unknown secret store is 400 and named", async () => {
    const body = { templateID: template, secretStore: "no-such-store" };
    assertRefused(await call("POST", "/sandboxes", { body }), 400, /no-such-store/);
  });

  test("what is not a JSON object is 400", async () => {
    const bodies = [
      "{", "{]", "[]", "null", "7", '"text"', "{'a':1}", '{"a":1}x', '{"envs":', "\u0000",
      Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]), "[".repeat(200_000),
      `{"a":${"[".repeat(100_000)}`,
    ];
    for (const body of bodies) {
      const reply = await call("POST", "/sandboxes", { body });
      assert.equal(reply.status, 400, `${String(body).slice(0, 40)}: ${reply.status} ${reply.text}`);
      assertRefused(reply, 400);
    }
  });

  test("a body over 1 MiB is 413, with and without a length", async () => {
    // Not of a create: that may bring an image's files.
    const path = "/sandboxes/sb-00000000/timeout";
    const body = JSON.stringify({ timeout: 1, more: "x".repeat(2 << 20) });
    assertRefused(await call("POST", path, { body }), 413);
    const stream = new ReadableStream({
      start(controller) {
        for (let at = 0; at < body.length; at += 65536) {
          controller.enqueue(new TextEncoder().encode(body.slice(at, at + 65536)));
        }
        controller.close();
      },
    });
    const reply = await fetch(`${api}${path}`, {
      method: "POST", headers: { "X-API-Key": apiKey }, body: stream, duplex: "half",
    });
    assert.equal(reply.status, 413);
    assert.equal(typeof (await reply.json()).error, "string");
  });
});

describe("api: bad calls on a sandbox", suite, () => {
  let id;
  before(async () => {
    id = (await createBox()).sandboxId;
  });
  after(cleanUp);

  test("malformed JSON on each POST is 400", async () => {
    for (const below of ["/timeout", "/exec/run", "/exec/run-async"]) {
      for (const body of ["{", "[]", "nonsense", '"x"']) {
        assertRefused(await call("POST", `/sandboxes/${id}${below}`, { body }), 400);
      }
    }
  });

  test("ids that nobody has are 404, nonsense in the path is not a server error", async () => {
    for (const [method, below, body] of [
      ["GET", ""], ["DELETE", ""], ["POST", "/timeout", { timeout: 5 }],
      ["POST", "/exec/run", { cmd: "true" }], ["POST", "/exec/run-async", { cmd: "true" }],
      ["GET", "/exec"], ["GET", "/exec/x/result"], ["GET", "/files?path=/etc/passwd"],
      ["PUT", "/files?path=/x", "x"], ["GET", "/files/list?path=/"],
    ]) {
      assertRefused(await call(method, `/sandboxes/sb-00000000${below}`, { body }), 404);
    }
    for (const odd of ["sb-%2e%2e%2f", "%00", "sb-%ff%fe", "x".repeat(4000), "sb-1%0d%0aX:y"]) {
      const reply = await call("GET", `/sandboxes/${odd}`);
      assert.ok(reply.status >= 400 && reply.status < 500, `${odd.slice(0, 20)}: ${reply.status}`);
    }
  });

  test("timeout: missing, negative, text, fraction and huge are 400", async () => {
    for (const body of [{}, { timeout: -1 }, { timeout: "5" }, { timeout: 1.5 }, { timeout: null }, { timeout: 1e300 }]) {
      assertRefused(await call("POST", `/sandboxes/${id}/timeout`, { body }), 400);
    }
    const ok = await call("POST", `/sandboxes/${id}/timeout`, { body: { timeout: 600 } });
    assert.equal(ok.status, 204);
    assert.equal(ok.text, "");
  });

  const commands = [
    ["missing cmd", {}], ["empty cmd", { cmd: "" }], ["cmd number", { cmd: 7 }],
    ["args text", { cmd: "ls", args: "-l" }], ["args numbers", { cmd: "ls", args: [1] }],
    ["envs array", { cmd: "ls", envs: [] }], ["envs number", { cmd: "ls", envs: { A: 1 } }],
    ["cwd number", { cmd: "ls", cwd: 1 }], ["timeout -1", { cmd: "ls", timeout: -1 }],
    ["timeout text", { cmd: "ls", timeout: "5" }],
    ["zero byte in cmd", { cmd: "echo a\u0000b" }],
    ["zero byte in args", { cmd: "echo", args: ["a\u0000b"] }],
  ];
  for (const [name, body] of commands) {
    test(`exec: ${name} is 400`, async () => {
      assertRefused(await call("POST", `/sandboxes/${id}/exec/run`, { body }), 400);
      assertRefused(await call("POST", `/sandboxes/${id}/exec/run-async`, { body }), 400);
    });
  }

  test("exec: a missing cwd is 400 and named", async () => {
    const body = { cmd: "true", cwd: "/no/such/folder" };
    assertRefused(await call("POST", `/sandboxes/${id}/exec/run`, { body }), 400, /\/no\/such\/folder/);
  });

  test("exec: unknown commands are 404 for result and kill", async () => {
    assertRefused(await call("GET", `/sandboxes/${id}/exec/nosuchid/result`), 404);
    assertRefused(await call("POST", `/sandboxes/${id}/exec/nosuchid/kill`, { body: {} }), 404);
  });

  test("exec: a plain GET of a session is answered, not left hanging", async () => {
    const reply = await call("GET", `/sandboxes/${id}/exec/nosuchid`);
    assert.ok([400, 404, 426].includes(reply.status), String(reply.status));
  });

  test("files: bad paths", async () => {
    const files = `/sandboxes/${id}/files`;
    assertRefused(await call("GET", files), 400);
    assertRefused(await call("GET", `${files}?path=`), 400);
    assertRefused(await call("PUT", files, { body: "x" }), 400);
    assertRefused(await call("DELETE", files), 400);
    assertRefused(await call("POST", `${files}/mkdir`), 400);
    assertRefused(await call("GET", `${files}?path=/no/such/file`), 404);
    assertRefused(await call("GET", `${files}?path=/etc`), 400, /directory/);
    assertRefused(await call("PUT", `${files}?path=/etc`, { body: "x" }), 400);
    assertRefused(await call("GET", `${files}/list?path=/no/such`), 404);
    assertRefused(await call("GET", `${files}/list?path=/etc/passwd`), 400);
    assertRefused(await call("POST", `${files}/mkdir?path=/etc/passwd/x`), 400);
    assertRefused(await call("POST", `${files}/mkdir?path=/etc/passwd`), 400);
    assertRefused(await call("DELETE", `${files}?path=/`), 400);
    assertRefused(await call("GET", `${files}?path=/etc/pass%00wd`), 400);
    assertRefused(await call("GET", `${files}?path=/${"x".repeat(5000)}`), 400);
    const loop = await call("GET", `${files}?path=/${"x/".repeat(1000)}`);
    assert.ok([400, 404].includes(loop.status), String(loop.status));
  });

  test("files: an upload over 2 GiB is 413 before it is sent", async () => {
    const status = await new Promise((resolve, reject) => {
      const req = request(`${api}/sandboxes/${id}/files?path=/tmp/huge`, {
        method: "PUT",
        headers: { "X-API-Key": apiKey, "Content-Length": String(3 * 2 ** 30) },
      });
      req.on("response", (res) => {
        resolve(res.statusCode);
        req.destroy();
      });
      req.on("error", reject);
      req.setTimeout(60_000, () => reject(new Error("no answer within 60 s")));
      req.flushHeaders();
    });
    assert.equal(status, 413);
  });

  test("an Accept of event-stream changes nothing here", async () => {
    const headers = { Accept: "text/event-stream" };
    for (const [method, path, body] of [
      ["GET", `/sandboxes/${id}`], ["GET", "/sandboxes"],
      ["POST", `/sandboxes/${id}/exec/run`, { cmd: "echo x" }],
    ]) {
      const reply = await call(method, path, { headers, body });
      assert.equal(reply.status, 200, reply.text);
      assert.match(reply.headers.get("content-type"), /^application\/json/);
      assert.ok(reply.json);
    }
  });

  test("the sandbox is unharmed by all of this", async () => {
    const reply = await call("POST", `/sandboxes/${id}/exec/run`, { body: { cmd: "echo fine" } });
    assert.equal(reply.json?.stdout, "fine\n", reply.text);
  });
});
