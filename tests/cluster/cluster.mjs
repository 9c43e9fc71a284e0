// Real daemons on loopback addresses, as many as a test wants: 127.0.0.1, 127.0.0.2, ... They run
// no sandboxes (--sandboxes-max 0), so no KVM is needed; everything else of a cluster is there.
//
//   SHOALD   the program (build/asan/node/shoald)
import { execFileSync, spawn } from "node:child_process";
import { closeSync, cpSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";

export { sleep };

const program = process.env.SHOALD ?? fileURLToPath(new URL("../../build/asan/node/shoald", import.meta.url));
export const noProgram = existsSync(program) ? false : `${program} is not built`;
export const suite = { skip: noProgram, timeout: 240_000 };

/** Poll until `probe` returns something truthy; its value, or a failure after `ms`. */
export async function eventually(what, probe, ms = 60_000, stepMs = 50) {
  const end = Date.now() + ms;
  let last;
  for (;;) {
    last = await probe();
    if (last) return last;
    if (Date.now() > end) assert.fail(`${what}: did not happen within ${ms / 1000} s`);
    await sleep(stepMs);
  }
}

async function freePort(host) {
  const server = createServer();
  await new Promise((resolve, reject) => server.on("error", reject).listen(0, host, resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Two ports in a row for the mesh. */
async function freePair(host) {
  for (;;) {
    const port = await freePort(host);
    if (port >= 65535) continue;
    const server = createServer();
    const free = await new Promise((resolve) =>
      server.on("error", () => resolve(false)).listen(port + 1, host, () => resolve(true)),
    );
    if (free) await new Promise((resolve) => server.close(resolve));
    if (free) return port;
  }
}

export class Node {
  constructor(cluster, index) {
    this.cluster = cluster;
    this.index = index;
    this.name = `node-${index}`;
    this.host = `127.0.0.${index}`;
    this.dir = join(cluster.dir, String(index));
    mkdirSync(this.dir);
    this.log = join(this.dir, "log");
  }

  /** Starts the daemon; `more` are further options. Resolves when it answers, or when it ended. */
  async start(...more) {
    this.apiPort ??= await freePort(this.host);
    this.meshPort ??= await freePair(this.host);
    const env = { ...process.env, ...this.env };
    const out = openSync(join(this.dir, "out"), "a");
    const log = openSync(this.log, "a");
    const [command, ...before] = [...(this.before ?? []), program];
    this.process = spawn(
      command,
      [...before, "--sandboxes-max", "0", "--data", join(this.dir, "data"), "--run", join(this.dir, "run"),
        "--listen", `${this.host}:${this.apiPort}`, "--mesh", `${this.host}:${this.meshPort}`,
        "--mesh-address", this.host, "--worker-id", this.name, "--public-url", this.url,
        ...(this.options ?? []), ...more],
      { stdio: ["ignore", out, log], env },
    );
    closeSync(out);
    closeSync(log);
    this.exit = undefined;
    this.ended = new Promise((resolve) => this.process.on("exit", (code, signal) => {
      this.exit = code ?? signal;
      resolve(this.exit);
    }));
    await eventually(`${this.name} answers`, async () => this.exit !== undefined || (await this.answers()));
    return this;
  }

  /** Starts it, knowing that it ends by itself with a sentence, which is returned. */
  async refused(...more) {
    const before = this.text().length;
    await this.start(...more);
    assert.equal(this.exit, 1, `${this.name} should have given up`);
    return this.text().slice(before).split("\n").filter((line) => line.startsWith("shoald: ")).join("\n");
  }

  /** Its wall clock is `seconds` ahead from the next start on. False when that cannot be done. */
  setClock(seconds) {
    const library = join(dirname(program), "../tests/cluster/test_clock.so");
    if (!existsSync(library)) return false;
    const asan = /=> (\S*libasan\S*)/.exec(execFileSync("ldd", [program], { encoding: "utf8" }));
    this.env = { LD_PRELOAD: [asan?.[1], library].filter(Boolean).join(" "), SHOAL_TEST_CLOCK_S: `${seconds}` };
    return true;
  }

  get url() {
    return `http://${this.host}:${this.apiPort}`;
  }

  text() {
    return existsSync(this.log) ? readFileSync(this.log, "utf8") : "";
  }

  /** Log events of one name. */
  events(name) {
    return this.text().split("\n").filter((line) => line.includes(`"event":"${name}"`)).map((line) => JSON.parse(line));
  }

  async answers() {
    try {
      return (await fetch(`${this.url}/healthz`, { signal: AbortSignal.timeout(2000) })).ok;
    } catch {
      return false;
    }
  }

  async call(method, path, body, headers = {}) {
    const response = await fetch(`${this.url}${path}`, {
      method,
      headers: { "X-API-Key": this.cluster.key, "Content-Type": "application/json", ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(30_000),
    });
    const text = await response.text();
    return { status: response.status, headers: response.headers, body: text ? JSON.parse(text) : null };
  }

  /** GET /api/cluster, or null while it does not answer. */
  async status() {
    try {
      const { status, body } = await this.call("GET", "/api/cluster");
      return status === 200 ? body : null;
    } catch {
      return null;
    }
  }

  async metrics() {
    const headers = { "X-API-Key": this.cluster.key };
    return (await fetch(`${this.url}/metrics`, { headers, signal: AbortSignal.timeout(10_000) })).text();
  }

  async token(ttl = 600) {
    const { status, body } = await this.call("POST", "/api/join-tokens", { ttl });
    assert.equal(status, 201, JSON.stringify(body));
    return body.token;
  }

  async stop(signal = "SIGTERM") {
    if (!this.process || this.exit !== undefined) return this.exit;
    this.process.kill(signal);
    return this.ended;
  }

  pause() {
    this.process.kill("SIGSTOP");
  }

  resume() {
    this.process.kill("SIGCONT");
  }

  copyDataFrom(other) {
    this.wipe();
    cpSync(join(other.dir, "data"), join(this.dir, "data"), { recursive: true });
  }

  /** Its data folder as it is now, for restore(). */
  save() {
    rmSync(join(this.dir, "saved"), { recursive: true, force: true });
    cpSync(join(this.dir, "data"), join(this.dir, "saved"), { recursive: true });
  }

  restore() {
    this.wipe();
    cpSync(join(this.dir, "saved"), join(this.dir, "data"), { recursive: true });
  }

  wipe() {
    rmSync(join(this.dir, "data"), { recursive: true, force: true });
  }
}

export class Cluster {
  constructor() {
    this.dir = mkdtempSync(join(tmpdir(), "shoal-cluster-"));
    this.nodes = [];
  }

  node(index = this.nodes.length + 1) {
    const node = new (this.Node ?? Node)(this, index);
    this.prepare?.(node);
    this.nodes.push(node);
    return node;
  }

  /** A founder and `count - 1` more that joined it, all of them voters where there are at most five. */
  async start(count) {
    const first = await this.node().start();
    this.key = /api key: (osb_\w+)/.exec(readFileSync(join(first.dir, "out"), "utf8"))[1];
    for (let i = 1; i < count; i++) await this.node().start("--join", await first.token());
    await this.settled();
    return this;
  }

  running() {
    return this.nodes.filter((node) => node.process && node.exit === undefined);
  }

  /** Everybody sees everybody alive, one leader, the same voters, the same state. */
  async settled(nodes = this.running(), ms = 60_000) {
    let seen = [];
    const agreed = eventually("the cluster agrees", async () => {
      seen = await Promise.all(nodes.map((node) => node.status()));
      if (seen.some((status) => !status?.scheduler.leader)) return null;
      const alive = (status) => status.nodes.filter((n) => n.state === "alive").map((n) => n.name).sort().join();
      const one = (of) => new Set(seen.map(of)).size === 1;
      const voters = Math.min(nodes.length >= 5 ? 5 : nodes.length >= 3 ? 3 : nodes.length, nodes.length);
      return one((s) => s.scheduler.leader) && one((s) => s.scheduler.digest) && one(alive) &&
        alive(seen[0]) === nodes.map((n) => n.name).sort().join() &&
        seen.every((s) => s.scheduler.voters.length >= voters) ? seen : null;
    }, ms, 100);
    return agreed.catch((error) => {
      for (const [i, status] of seen.entries()) {
        const life = status?.nodes.map((node) => `${node.name} ${node.state}`).join(", ");
        console.log(`# ${nodes[i].name} says: ${life}; ${JSON.stringify(status?.scheduler)}`);
      }
      throw error;
    });
  }

  leader(status) {
    return this.nodes.find((node) => node.name === status.scheduler.leader);
  }

  /** No daemon may have ended by itself, or on a sanitizer's word. */
  async end() {
    const codes = await Promise.all(this.running().map(async (node) => [node.name, await node.stop()]));
    const reports = this.nodes.filter((node) => /ERROR: AddressSanitizer|runtime error:|LeakSanitizer/.test(node.text()));
    for (const node of reports) console.log(node.text().split(/\n(?==+|.*runtime error:)/).slice(1).join("\n").slice(0, 6000));
    if (!process.env.KEEP) rmSync(this.dir, { recursive: true, force: true });
    assert.deepEqual(reports.map((node) => node.name), []);
    for (const [name, code] of codes) assert.equal(code, 0, `${name} ended with ${code}`);
  }
}

/** Runs `body` with a cluster of `count` nodes and always ends it. `prepare` is called with each
 *  node before its first start: it may fill its folder, and set its `options`. */
export function withCluster(count, body, prepare) {
  return async (t) => {
    const cluster = new Cluster();
    cluster.prepare = prepare;
    try {
      await cluster.start(count);
      await body(cluster, t);
    } catch (error) {
      for (const node of cluster.nodes) {
        console.log(`# ${node.name}: ${node.text().split("\n").slice(-12).join("\n# ")}`);
        if (node.exit === undefined) await node.stop("SIGKILL");
      }
      if (!process.env.KEEP) rmSync(cluster.dir, { recursive: true, force: true });
      throw error;
    }
    await cluster.end();
  };
}
