// Previews and signed URLs through nodes that do not have the sandbox: three real daemons with
// fake-vmm and the real agent, in a network namespace of their own. The server "in the sandbox" is
// one of this test.
import { createHash } from "node:crypto";
import { cpSync, writeFileSync } from "node:fs";
import { createServer, request } from "node:http";
import { connect } from "node:net";
import { dirname, join } from "node:path";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import assert from "node:assert/strict";
import { eventually, suite, withCluster } from "./cluster.mjs";
import { create, inNamespace, inside, lose, ownerOf, prepare, removeAll } from "./fake.mjs";

inNamespace("previews", import.meta.url);

const shoald = process.env.SHOALD ?? fileURLToPath(new URL("../../build/asan/node/shoald", import.meta.url));

function withAgent(node) {
  prepare(node);
  const folder = join(node.dir, "data", "templates", "minimal");
  writeFileSync(join(folder, "disk.raw"), "real_agent\n");
  cpSync(join(dirname(shoald), "../agent/shoal-agent"), join(folder, "shoal-agent"));
}

/** A request with a Host header of its own; the body in whole, or piece by piece to `onData`. */
function ask(node, host, { method = "GET", path = "/", headers = {}, body, onData } = {}) {
  return new Promise((resolve, reject) => {
    const req = request({ host: node.host, port: node.apiPort, method, path, headers: { Host: host, ...headers } }, (res) => {
      const parts = [];
      res.on("data", (part) => (onData ? onData(part, req) : parts.push(part)));
      res.on("error", reject);
      res.on("end", () => resolve({ status: res.statusCode, headers: res.headers, body: Buffer.concat(parts) }));
    });
    req.on("error", reject);
    req.end(body);
  });
}

async function withServer(handler, body) {
  const server = createServer(handler);
  server.on("upgrade", (req, socket) => {
    const accept = createHash("sha1").update(`${req.headers["sec-websocket-key"]}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest("base64");
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`);
    socket.on("data", (data) => socket.write(data));
    socket.on("error", () => {});
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    return await body(server.address().port);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

if (inside) describe("previews", suite, () => {
  it("are served through every node, with bodies, events and sockets", withCluster(3, async (cluster) => {
    const [first] = cluster.nodes;
    const sandbox = await create(first);
    const owner = await ownerOf(cluster, sandbox);
    const seen = [];
    const big = Buffer.alloc(5 << 20, "0123456789abcdef");
    await withServer((req, res) => {
      seen.push(req);
      if (req.url === "/events") {
        res.writeHead(200, { "Content-Type": "text/event-stream" });
        res.write("data: one\n\n");
        return; // it never ends
      }
      const parts = [];
      req.on("data", (part) => parts.push(part));
      req.on("end", () => {
        const body = Buffer.concat(parts);
        res.setHeader("Set-Cookie", ["a=1", "b=2"]);
        res.setHeader("X-Length", body.length);
        res.end(req.method === "GET" ? big : body);
      });
    }, async (port) => {
      for (const node of cluster.nodes) {
        const where = node === owner ? "owner" : "another node";
        const host = `${sandbox}-p${port}.localhost:${node.apiPort}`;
        const get = await ask(node, host, { path: "/a/b?c=%20&c" });
        assert.equal(get.status, 200, where);
        assert.ok(get.body.equals(big), where);
        assert.deepEqual(get.headers["set-cookie"], ["a=1", "b=2"]);
        assert.equal(get.headers["x-shoal-node"], undefined);
        const req = seen.at(-1);
        assert.equal(req.url, "/a/b?c=%20&c");
        assert.equal(req.headers.host, host);
        assert.equal(req.headers["x-forwarded-for"], node.host.replace(/\d+$/, "1"));
        assert.equal(req.headers["x-forwarded-host"], host);

        const post = await ask(node, host, { method: "POST", body: big, headers: { "Transfer-Encoding": "chunked" } });
        assert.equal(post.status, 200, where);
        assert.ok(post.body.equals(big), where);

        const event = await new Promise((resolve, reject) => {
          ask(node, host, { path: "/events", onData: (part, asked) => { asked.destroy(); resolve(part); } }).catch(reject);
        });
        assert.equal(event.toString(), "data: one\n\n", `${where}: before the end`);

        const echoed = await new Promise((resolve, reject) => {
          const socket = connect(node.apiPort, node.host, () => socket.write(
            `GET /ws HTTP/1.1\r\nHost: ${host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"));
          let text = "";
          socket.on("error", reject);
          socket.on("data", (data) => {
            text += data.toString("latin1");
            if (text.endsWith("\r\n\r\n")) socket.write("raw bytes both ways");
            if (text.endsWith("ways")) { socket.destroy(); resolve(text); }
          });
        });
        assert.match(echoed, /^HTTP\/1.1 101 /);
        assert.match(echoed, /Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK\+xOo=/, where);
      }
    });
    const gone = await ask(first, `sb-00000000-p80.localhost`);
    assert.equal(gone.status, 404);
    await removeAll(cluster);
  }, withAgent));

  it("are closed by a token on every node; rotation ends the old one", withCluster(3, async (cluster) => {
    const [first] = cluster.nodes;
    const made = await first.call("POST", "/api/sandboxes",
      { templateID: "minimal", memoryMB: 512, previewAuth: { scheme: "bearer", token: "auto" } });
    assert.equal(made.status, 201, JSON.stringify(made.body));
    const { sandboxID, previewAuthToken } = made.body;
    assert.match(previewAuthToken, /^pv_/);
    await withServer((req, res) => res.end(JSON.stringify(req.headers)), async (port) => {
      const host = `${sandboxID}-p${port}.localhost`;
      const bearer = (token) => ({ headers: { Authorization: `Bearer ${token}` } });
      for (const node of cluster.nodes) {
        const refused = await ask(node, host);
        assert.equal(refused.status, 401);
        assert.equal(refused.headers["www-authenticate"], 'Bearer realm="preview"');
        const served = await ask(node, host, bearer(previewAuthToken));
        assert.equal(served.status, 200);
        assert.equal(JSON.parse(served.body).authorization, undefined, "the token is not for the server");
      }
      const last = cluster.nodes.at(-1);
      const { body } = await last.call("POST", `/api/sandboxes/${sandboxID}/preview/rotate`);
      for (const node of cluster.nodes) {
        assert.equal((await ask(node, host, bearer(previewAuthToken))).status, 401);
        assert.equal((await ask(node, host, bearer(body.previewAuthToken))).status, 200);
      }
    });
    await removeAll(cluster);
  }, withAgent));

  it("signed URLs of one node work on another", withCluster(3, async (cluster) => {
    const [first, second, third] = cluster.nodes;
    const sandbox = await create(first);
    const wish = { path: "signed file.bin" };
    const bytes = Buffer.alloc(300_000, "signed");
    const up = await second.call("POST", `/api/sandboxes/${sandbox}/files/upload-url`, wish);
    assert.equal(up.status, 200, JSON.stringify(up.body));
    assert.ok(up.body.url.startsWith(second.url), up.body.url);
    const put = await fetch(up.body.url.replace(second.url, third.url), { method: "PUT", body: bytes });
    assert.equal(put.status, 204, await put.text());
    const down = await third.call("POST", `/api/sandboxes/${sandbox}/files/download-url`, wish);
    for (const node of cluster.nodes) {
      const got = await fetch(down.body.url.replace(third.url, node.url));
      assert.equal(got.status, 200);
      assert.ok(Buffer.from(await got.arrayBuffer()).equals(bytes));
      const forged = await fetch(down.body.url.replace(third.url, node.url).replace("bin", "bim"));
      assert.equal(forged.status, 403);
    }
    await removeAll(cluster);
  }, withAgent));

  it("records and token survive a restart, and go along when the node is lost", withCluster(3, async (cluster) => {
    const [first] = cluster.nodes;
    const made = await first.call("POST", "/api/sandboxes",
      { templateID: "minimal", memoryMB: 512, previewAuth: { token: "a token of my own" } });
    assert.equal(made.status, 400, "blanks are refused");
    const sandbox = await create(first, { previewAuth: { token: "a-token-of-my-own" } });
    const owner = await ownerOf(cluster, sandbox);
    const records = async (node) => (await node.call("GET", `/api/sandboxes/${sandbox}/preview`)).body;
    const record = await first.call("POST", `/api/sandboxes/${sandbox}/preview`, { port: 3000, authConfig: { kept: true } });
    assert.equal(record.status, 201, JSON.stringify(record.body));
    assert.equal(record.body.hostname, `${sandbox}-p3000.localhost:${first.apiPort}`);

    await owner.stop();
    await owner.start();
    await cluster.settled();
    const same = ({ hostname, url, ...rest }) => rest;
    assert.deepEqual((await records(owner)).map(same), [same(record.body)]);

    let why;
    // What is changed while it is hibernated is known where it comes back after the loss of its node.
    const asker = cluster.nodes.find((node) => node !== owner);
    const slept = await asker.call("POST", `/api/sandboxes/${sandbox}/hibernate`);
    assert.equal(slept.status, 200, JSON.stringify(slept.body));
    const ready = () => owner.events("checkpoint_ready").length;
    await eventually("it is saved", ready);
    const before = ready();
    const second = await asker.call("POST", `/api/sandboxes/${sandbox}/preview`, { port: 80 });
    assert.equal(second.status, 201, JSON.stringify(second.body));
    await eventually("it is saved again", () => ready() > before);
    await eventually("its state is on two nodes, and the log knows it", async () =>
      (await asker.call("GET", `/api/sandboxes/${sandbox}`)).body.durability?.state === "replicated" &&
      (await asker.metrics()).includes('shoal_state_rows{table="owners"} 1\n'));
    await lose(owner, sandbox);
    await eventually("it wakes", async () => (await asker.call("POST", `/api/sandboxes/${sandbox}/wake`)).status === 200);
    const found = await eventually("another node has it", async () => {
      const answer = await asker.call("GET", `/api/sandboxes/${sandbox}/preview`);
      why = JSON.stringify(answer.body);
      return answer.status === 200 && answer.body.length > 0 && answer.body;
    }, 30_000).catch((error) => assert.fail(`${error.message}: ${why}`));
    assert.deepEqual(found.map((one) => [one.port, one.authConfig]), [[80, {}], [3000, { kept: true }]]);
    assert.equal((await ask(asker, `${sandbox}-p80.localhost`)).status, 401);
    await owner.start();
    await cluster.settled();
    await removeAll(cluster);
    const gone = await asker.call("GET", `/api/sandboxes/${sandbox}/preview`);
    assert.deepEqual([gone.status, gone.body], [200, []], "they go with it");
  }, prepare));
});
