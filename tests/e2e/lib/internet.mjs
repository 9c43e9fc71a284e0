// A small Internet for the sandboxes of a test: an HTTPS server with an authority of its own, and a name
// server. They run in the test; on the node's machine two addresses that lead nowhere (203.0.113.0/24 is for
// documentation) and the questions of the node for names are led here by nftables, and the authority is
// added to those that the machine trusts, as its owner would (update-ca-certificates).
import assert from "node:assert/strict";
import dgram from "node:dgram";
import http from "node:http";
import http2 from "node:http2";
import net from "node:net";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { answerName, makeCertificates, nameOf } from "../../egress/world.mjs";
import { hereFromNode, onNode } from "./node.mjs";
import { eventually } from "./shoal.mjs";

export const ADDRESS = "203.0.113.80";
export const EVENTS = 5;
const KEPT_BYTES = 4096; // of a body
const CA = "/usr/local/share/ca-certificates/shoal-e2e.crt";
const TABLE = "ip shoal_e2e_internet";


export class Internet {
  /** {host, path, headers, body, bytes, version, secure} of each request. */
  requests = [];
  /** Names that were asked for. */
  names = [];
  /** Serves all requests instead, when it is set: (request, response). */
  answer = null;
  /** Connections to a port that nobody may reach. */
  strays = 0;
  #servers = [];
  #sockets = new Set();
  #next;

  constructor(...hosts) {
    this.hosts = hosts;
  }

  async start() {
    try {
      await this.#start();
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  #listen(server) {
    this.#servers.push(server);
    server.on("connection", (socket) => {
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
      socket.on("error", () => {});
    });
    return new Promise((done) => server.listen(0, "127.0.0.1", () => done(server.address().port)));
  }

  async #start() {
    this.dir = mkdtempSync(join(tmpdir(), "shoal-internet-"));
    makeCertificates(this.dir, { server: ["ca", this.hosts] });
    const tls = { allowHTTP1: true, key: readFileSync(join(this.dir, "server.key")), cert: readFileSync(join(this.dir, "server.crt")) };
    const secure = http2.createSecureServer(tls, (request, response) => this.#serve(request, response, true));
    for (const event of ["sessionError", "tlsClientError"]) secure.on(event, () => {});
    const plain = http.createServer((request, response) => this.#serve(request, response, false));
    const stray = net.createServer((socket) => { this.strays++; socket.end("you should not be here\n"); });
    const ports = { 443: await this.#listen(secure), 80: await this.#listen(plain), 8080: await this.#listen(stray) };
    await this.#leadHere(ports, await this.#startNames());
    await this.#trust();
  }

  async #startNames() {
    const socket = dgram.createSocket("udp4");
    const known = Object.fromEntries(this.hosts.map((host) => [host, ADDRESS]));
    socket.on("message", (message, from) => {
      this.names.push(nameOf(message));
      socket.send(answerName(message, known), from.port, from.address);
    });
    await new Promise((done) => socket.bind(0, "127.0.0.1", done));
    this.#servers.push(socket);
    return socket.address().port;
  }

  async #leadHere(ports, names) {
    const to = (port) => `dnat to ${hereFromNode}:${port}`;
    const rules = [
      ...Object.entries(ports).map(([port, here]) => `ip daddr ${ADDRESS} tcp dport ${port} ${to(here)}`),
      `udp dport 53 ${to(names)}`,
    ];
    await onNode(`nft -f - <<'EOF'
add table ${TABLE}
delete table ${TABLE}
table ${TABLE} {
  chain out { type nat hook output priority -100; policy accept;
    ${rules.join("\n    ")}
  }
}
EOF`);
    // what is refused to a sandbox is there: otherwise refusing it would say nothing
    assert.match(await onNode(`curl -sS --http0.9 --max-time 20 http://${ADDRESS}:8080/ || true`), /should not be here/);
    this.strays = 0;
  }

  async #trust() {
    const heard = () => onNode("grep -c '\"event\":\"egress.trusted\"' /var/lib/shoal/shoald.log || true");
    const before = Number(await heard());
    await onNode(`cat >${CA} <<'EOF'\n${readFileSync(join(this.dir, "ca.crt"), "utf8")}EOF\nupdate-ca-certificates >/dev/null 2>&1`);
    await eventually("the node gives the new authority to its guests", async () => Number(await heard()) > before);
  }

  #serve(request, response, secure) {
    if (this.answer) {
      this.answer(request, response);
      return;
    }
    const kept = [];
    const one = { host: request.headers.host ?? request.authority, path: request.url, headers: request.headers,
      bytes: 0, version: request.httpVersion, secure };
    if (one.path === "/events") {
      response.writeHead(200, { "content-type": "text/event-stream" });
      let n = 0;
      this.#next = () => (n < EVENTS ? response.write(`data: ${n++}\n\n`) : response.end());
    }
    request.on("data", (part) => {
      one.bytes += part.length;
      if (one.bytes <= KEPT_BYTES) kept.push(part);
    });
    request.on("end", () => {
      one.body = Buffer.concat(kept).toString("latin1");
      this.requests.push(one);
      if (one.path === "/events" || one.path === "/came") this.#next(); // one event after the other
      // nothing of the request: a sandbox must not learn its secrets from here
      if (one.path !== "/events") response.end(`${one.bytes} bytes came\n`);
    });
  }

  /** The last request for @path, or undefined. */
  last = (path) => this.requests.findLast((one) => one.path.split("?")[0] === path);

  async stop() {
    for (const server of this.#servers) server.close();
    for (const socket of this.#sockets) socket.destroy();
    await onNode(`nft delete table ${TABLE}; rm -f ${CA}; update-ca-certificates --fresh >/dev/null 2>&1; true`);
    rmSync(this.dir, { recursive: true, force: true });
  }
}
