// The Internet of the tests: names, HTTPS, HTTP and a port nobody should reach. Runs in a
// namespace of its own. Prints "ready", then one line of JSON for each thing that got here.
//   node servers.mjs FOLDER      (FOLDER/server.{key,crt}, FOLDER/wrong.{key,crt})
import dgram from "node:dgram";
import http from "node:http";
import http2 from "node:http2";
import net from "node:net";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { modelHandler } from "../e2e/lib/model.mjs";
import { answerName, nameOf } from "./world.mjs";

const dir = process.argv[2];
const GOOD = "203.0.113.5";
const OTHER = "203.0.113.6";
const DNS = "203.0.113.53";
const names = {
  "api.example.com": GOOD, "a.b.example.com": GOOD, "other.example.org": GOOD, "evil.example.net": OTHER,
  "untrusted.example.com": OTHER, "inside.example.com": "10.201.0.1", "meta.example.com": "169.254.169.254",
  "dead.example.com": "203.0.113.99", "free.example.com": GOOD, "api.anthropic.com": GOOD, "fast.example.com": "203.0.113.8",
};
const say = (what) => process.stdout.write(JSON.stringify(what) + "\n");

function answer(message) {
  say({ dns: nameOf(message) });
  return answerName(message, names);
}

function names53(address) {
  const socket = dgram.createSocket("udp4");
  socket.on("message", (message, from) => {
    if (address !== DNS) return say({ stray: "dns" });
    socket.send(answer(message), from.port, from.address);
  });
  return new Promise((done) => socket.bind(53, address, done));
}

const model = modelHandler((what) => say({ model: what }));

function onRequest(request, response) {
  if (request.headers.host === "api.anthropic.com") return model(request, response);
  const path = request.url.split("?")[0];
  if (path === "/sse") {
    response.writeHead(200, { "content-type": "text/event-stream" });
    let n = 0;
    response.write(`data: ${n++}\n\n`);
    request.socket.sseNext = () => response.write(`data: ${n++}\n\n`);
    process.on("SIGUSR2", request.socket.sseNext);
    response.on("close", () => process.off("SIGUSR2", request.socket.sseNext));
    return;
  }
  if (path === "/many") { // chunks, and then the connection ends behind them
    response.writeHead(200, { connection: "close" });
    const chunk = "x".repeat(100);
    for (let n = 0; n < 40000; n++) response.write(chunk);
    response.end();
    return;
  }
  const hash = createHash("sha256");
  const kept = [];
  let bytes = 0;
  request.on("data", (part) => {
    bytes += part.length;
    hash.update(part);
    if (bytes < 2e6) kept.push(part);
  });
  request.on("end", () => {
    const body = bytes < 2e6 ? Buffer.concat(kept).toString("latin1") : "";
    const text = JSON.stringify({ url: request.url, headers: request.headers, bytes, sha256: hash.digest("hex"), body,
      version: request.httpVersion });
    response.writeHead(200, { "content-type": "application/json", "content-length": Buffer.byteLength(text) });
    response.end(request.method === "HEAD" ? "" : text);
  });
}

function onUpgrade(request, socket) {
  socket.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n" +
    `authorization=${request.headers.authorization}\n`);
  socket.on("data", (data) => socket.write(data));
  socket.on("error", () => {});
}

function secure(address, port, name) {
  const server = http2.createSecureServer({ allowHTTP1: true, key: readFileSync(join(dir, `${name}.key`)),
    cert: readFileSync(join(dir, `${name}.crt`)) }, onRequest);
  server.on("upgrade", onUpgrade);
  server.on("sessionError", () => {});
  server.on("tlsClientError", () => {});
  server.on("connection", () => say({ tcp: `${address}:${port}` }));
  return new Promise((done) => server.listen(port, address, done));
}

const plain = http.createServer(onRequest);
plain.on("connection", () => say({ tcp: "plain" }));
const odd = net.createServer((socket) => {
  say({ stray: "port" });
  socket.end("you should not be here\n");
});
const quic = dgram.createSocket("udp4");
quic.on("message", () => say({ stray: "quic" }));
const banner = net.createServer((socket) => socket.end("SSH-2.0-test\r\n")); // a server that speaks first

await names53(DNS);
await names53(OTHER);
await secure(GOOD, 443, "server");
await secure(OTHER, 443, "wrong");
await secure(GOOD, 8443, "server");
await new Promise((done) => plain.listen(80, GOOD, done));
await new Promise((done) => odd.listen(8080, GOOD, done));
await new Promise((done) => quic.bind(443, GOOD, done));
await new Promise((done) => banner.listen(443, "203.0.113.7", done));
say("ready");
