// Previews (contract tests 20, 21, 82 to 84) and what a browser makes of them. The sandbox is one of
// the template base, for python3. Hosts are asked for on the address of the node with a Host
// header, because not every resolver knows *.localhost.
//
//   SHOAL_CHROMIUM  the browser of the long test (chromium)
import assert from "node:assert/strict";
import { request } from "node:http";
import { after, before, describe, test } from "node:test";
import { WebSocket } from "ws";
import { assertRefused, call, cleanUp, createBox, eventually, getBox, long, origin, sh, suite, takeTurn } from "./lib/shoal.mjs";

await takeTurn();

const at = origin ? new URL(origin) : null;

/** A request to a preview host. `onData` gets pieces as they come and may end it. */
function ask(host, { method = "GET", path = "/", headers = {}, body, onData } = {}) {
  return new Promise((resolve, reject) => {
    const req = request({ host: at.hostname, port: at.port || 80, method, path, headers: { Host: host, ...headers } }, (res) => {
      const parts = [];
      res.on("data", (part) => (onData ? onData(part, req) : parts.push(part)));
      res.on("error", reject);
      res.on("end", () => {
        const bytes = Buffer.concat(parts);
        resolve({ status: res.statusCode, headers: new Headers(Object.entries(res.headers).map(([k, v]) => [k, `${v}`])),
          bytes, text: bytes.toString(), json: (() => { try { return JSON.parse(bytes); } catch { return undefined; } })() });
      });
    });
    req.on("error", reject);
    req.end(body);
  });
}

// Echoes bodies, streams events, and is a WebSocket server, on 127.0.0.1 alone.
const APP = `
import base64, hashlib, json, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class App(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *args): pass
    def answer(self, body, kind="text/plain"):
        self.send_response(200); self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def do_POST(self):
        self.answer(self.rfile.read(int(self.headers["Content-Length"])))
    def do_GET(self):
        if self.headers.get("Upgrade") == "websocket": return self.socket()
        if self.path == "/headers": return self.answer(json.dumps(dict(self.headers)).encode())
        if self.path == "/big": return self.answer(b"0123456789abcdef" * 1048576)
        if self.path == "/events":
            self.send_response(200); self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked"); self.end_headers()
            for i in range(600):
                self.wfile.write(b"d\\r\\ndata: %5d\\n\\n\\r\\n" % i); self.wfile.flush(); time.sleep(1)
            return
        self.answer(PAGE.encode(), "text/html")
    def socket(self):
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101); self.send_header("Upgrade", "websocket"); self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()); self.end_headers()
        read = self.rfile.read
        while True:
            head = read(2)
            if len(head) < 2: return
            n = head[1] & 127
            if n == 126: n = int.from_bytes(read(2), "big")
            mask = read(4); data = bytes(b ^ mask[i % 4] for i, b in enumerate(read(n)))
            if head[0] & 15 == 8: self.wfile.write(b"\\x88\\x00"); return
            size = bytes([n]) if n < 126 else b"\\x7e" + n.to_bytes(2, "big")
            self.wfile.write(bytes([head[0]]) + size + data); self.wfile.flush()
PAGE = """<!doctype html><title>app</title><p id=out>loading</p><script>
const ws = new WebSocket("ws://" + location.host + "/ws");
ws.onopen = () => ws.send("from the page");
ws.onmessage = (e) => { document.getElementById("out").textContent = "echo: " + e.data; };
</script>"""
ThreadingHTTPServer(("127.0.0.1", 9000), App).serve_forever()
`;

describe("previews of a base sandbox", suite, () => {
  let box;
  // What the SDK calls the domain of a sandbox is its host of port 80.
  const domain = () => box.domain.replace(/^[^.]*\./, "");
  const host = (port) => `${box.sandboxId}-p${port}.${domain()}`;
  /** Python takes its time to start in an emulated machine. */
  const listens = (port) => eventually(`port ${port} is served`, async () => (await ask(host(port))).status !== 502, 120_000, 500);
  before(async () => {
    box = await createBox({ template: "base" }, "created");
    await sh(box, "mkdir -p www && echo 'hello from the sandbox' >www/index.html");
    await sh(box, "cd www && (python3 -m http.server 8000 --bind 127.0.0.1 >/dev/null 2>&1 &)");
    await box.files.write("app.py", APP);
    await sh(box, "(python3 app.py >app.log 2>&1 &)");
    await listens(8000);
    await listens(9000);
  });
  after(cleanUp);

  test("records: create, the same again, list, delete", async () => {
    const made = await box.createPreviewURL({ port: 8000 });
    assert.equal(made.hostname, host(8000));
    assert.equal(made.port, 8000);
    assert.equal(made.sandboxId, box.sandboxId);
    assert.equal((await box.createPreviewURL({ port: 8000 })).id, made.id);
    await box.createPreviewURL({ port: 9000, authConfig: { any: "thing" } });
    assert.deepEqual((await box.listPreviewURLs()).map((one) => one.port), [8000, 9000]);
    await box.deletePreviewURL(9000);
    await box.deletePreviewURL(9000);
    assert.deepEqual((await box.listPreviewURLs()).map((one) => one.port), [8000]);
    for (const port of [0, 70000]) await assert.rejects(box.createPreviewURL({ port }), /400/);
    await assert.rejects(box.createPreviewURL({ port: 80, domain: "app.example.com" }), /400.*not verified/);
  });

  test("python3 -m http.server on 127.0.0.1", async () => {
    const page = await ask(host(8000));
    assert.equal(page.status, 200, page.text);
    assert.equal(page.text, "hello from the sandbox\n");
    assert.match(page.headers.get("server"), /SimpleHTTP/);
    assert.equal((await ask(host(8000), { path: "/none" })).status, 404);
    assert.equal((await ask(host(8000), { method: "HEAD" })).headers.get("content-length"), "23");
  });

  test("bodies both ways, headers, events as they come", async () => {
    const body = Buffer.alloc(2 << 20, "preview");
    assert.ok((await ask(host(9000), { method: "POST", body })).bytes.equals(body));
    assert.equal((await ask(host(9000), { path: "/big" })).bytes.length, 16 << 20);
    const { json } = await ask(host(9000), { path: "/headers", headers: { "X-Mine": "1" } });
    assert.equal(json.Host, host(9000));
    assert.equal(json["X-Mine"], "1");
    assert.equal(json["X-Forwarded-Host"], host(9000));
    assert.ok(json["X-Forwarded-For"]);
    const event = await new Promise((resolve, reject) =>
      ask(host(9000), { path: "/events", onData: (part, req) => { req.destroy(); resolve(`${part}`); } }).catch(reject));
    assert.match(event, /^data: +0\n\n/);
  });

  test("a WebSocket", async () => {
    const socket = new WebSocket(`${origin.replace("http", "ws")}/ws`, { headers: { Host: host(9000) } });
    const got = [];
    await new Promise((resolve, reject) => {
      socket.on("error", reject);
      socket.on("open", () => ["one", "x".repeat(5000), "three"].forEach((text) => socket.send(text)));
      socket.on("message", (data) => { if (got.push(`${data}`) === 3) socket.close(); });
      socket.on("close", resolve);
    });
    assert.deepEqual(got, ["one", "x".repeat(5000), "three"]);
  });

  test("nothing listens: 502 for programs, a page that looks again for browsers", async () => {
    assertRefused(await ask(host(81)), 502, /nothing listens on port 81/);
    const page = await ask(host(81), { headers: { Accept: "text/html" } });
    assert.equal(page.status, 503);
    assert.match(page.text, /http-equiv="refresh" content="3"/);
  });

  test("hosts that are none", async () => {
    assertRefused(await ask(`sb-00000000-p80.${domain()}`), 404);
    assertRefused(await ask(`${box.sandboxId}-p0.${domain()}`), 404);
    assertRefused(await ask(`${box.sandboxId}-p65536.${domain()}`), 404);
  });

  test("a server of the user on port 80", async () => {
    await sh(box, "cd www && (python3 -m http.server 80 >/dev/null 2>&1 &)");
    await listens(80);
    assert.equal((await ask(`${box.getPreviewDomain(80)}`)).text, "hello from the sandbox\n");
  });

  test("a hibernated sandbox is woken, with the same hosts and its servers", async () => {
    await box.hibernate();
    assert.equal((await ask(host(8000))).text, "hello from the sandbox\n");
    assert.equal((await getBox(box.sandboxId)).status, "running");
    assert.equal((await ask(host(9000), { path: "/headers" })).status, 200);
    assert.deepEqual((await box.listPreviewURLs()).map((one) => one.hostname), [host(8000)]);
  });

  test("a real browser opens the page, and its WebSocket", { skip: long ? false : "SHOAL_TEST_LONG is not set" }, async () => {
    const { chromium } = await import("playwright-core");
    const browser = await chromium.launch({
      executablePath: process.env.SHOAL_CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
    try {
      const page = await browser.newPage();
      page.setDefaultTimeout(120_000); // an emulated guest starts python3 slowly
      const listing = await page.goto(`http://${host(8000)}/`);
      assert.equal(listing.status(), 200);
      assert.equal((await page.textContent("body")).trim(), "hello from the sandbox");
      await page.goto(`http://${host(9000)}/`);
      await page.waitForFunction(() => document.getElementById("out").textContent !== "loading");
      assert.equal(await page.textContent("#out"), "echo: from the page");
      console.log(`# ${browser.version()}: ${await page.title()}, ${await page.textContent("#out")}`);
      // The page that waits becomes the application when it is there.
      await page.goto(`http://${host(8100)}/`);
      assert.match(await page.textContent("h1"), /Waiting for port 8100/);
      await sh(box, "cd www && (python3 -m http.server 8100 >/dev/null 2>&1 &)");
      await page.waitForFunction(() => document.body.textContent.includes("hello from the sandbox"));
      const token = await box.rotatePreviewAuthToken();
      assert.equal((await page.goto(`http://${host(8000)}/`)).status(), 401);
      assert.equal((await page.goto(`http://${host(8000)}/?oc_preview_token=${token}`)).status(), 200);
      assert.equal(page.url(), `http://${host(8000)}/`, "the token is not in the address any more");
      assert.equal((await page.goto(`http://${host(8000)}/`)).status(), 200, "the cookie holds");
    } finally {
      await browser.close();
    }
  });

  test("a token closes the hosts; rotation ends the old one", async () => {
    const first = await box.rotatePreviewAuthToken();
    const bearer = (token) => ({ headers: { Authorization: `Bearer ${token}` } });
    assertRefused(await ask(host(8000)), 401, /token/);
    assert.equal((await ask(host(8000), bearer(first))).status, 200);
    assert.equal((await ask(host(8000), { headers: { "X-OC-Preview-Token": first } })).status, 200);
    const second = await box.rotatePreviewAuthToken();
    assertRefused(await ask(host(8000), bearer(first)), 401);
    assert.equal((await ask(host(8000), bearer(second))).status, 200);
    await box.hibernate();
    assertRefused(await ask(host(8000)), 401);
    assert.equal((await getBox(box.sandboxId)).status, "hibernated", "who may not come in wakes nobody");
  });

  test("a sandbox with previewAuth; an ended one is gone", async () => {
    const closed = await createBox({ previewAuth: { scheme: "bearer" } }, "created");
    assert.match(closed.previewAuthToken, /^pv_/);
    const name = closed.getPreviewDomain(80);
    assertRefused(await ask(name), 401);
    await closed.kill();
    await eventually("it is gone", async () => (await ask(name)).status === 410);
    assert.deepEqual((await call("GET", `/sandboxes/${closed.sandboxId}/preview`)).json, []);
  });
});
