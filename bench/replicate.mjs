// What copies of checkpoints cost; see bench/replicate. Against three nodes that run (--node,
// --key), or three daemons with fake-vmm (--local).
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { performance } from "node:perf_hooks";
import { Cluster, eventually, sleep } from "../tests/cluster/cluster.mjs";
import { prepare } from "../tests/cluster/fake.mjs";
import { finish, line, summary } from "./figures.mjs";

const MOVED_BAR = 1.05;
const STREAM_BAR = 0.9;
const TRANSFER_BAR = 0.9; // of plain CURVE, in unpacked bytes
const TRANSFER_MIB = "128";
const STREAM_MIB = "128"; // per round and size of message
const MIB = 1048576;
const POLL_MS = 10;
const WATCH_MS = 25;
const COUNTERS = ["fetched_bytes", "missing_bytes", "wire_bytes"];
const { values: options } = parseArgs({
  options: {
    local: { type: "boolean" }, node: { type: "string", multiple: true, default: [] }, key: { type: "string" },
    stream: { type: "string" }, transfer: { type: "string" }, rounds: { type: "string", default: "5" }, mib: { type: "string", default: "192" },
    check: { type: "boolean" }, json: { type: "string" },
  },
});
const rounds = Number(options.rounds);
const mib = Number(options.mib);
if (!(rounds >= 1) || !(mib >= 4) || !options.stream || !options.transfer || (!options.local && (options.node.length !== 3 || !options.key))) {
  console.error("usage: see bench/replicate, which calls this");
  process.exit(2);
}

class Node {
  constructor(url, key) {
    this.url = url;
    this.key = key;
  }

  async call(method, path, body, expected = [200, 201, 202, 204]) {
    const response = await fetch(`${this.url}/api${path}`, {
      method,
      headers: { "X-API-Key": this.key, "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(600_000),
    });
    const text = await response.text();
    if (!expected.includes(response.status)) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return text ? JSON.parse(text) : null;
  }

  async metrics() {
    const response = await fetch(`${this.url}/metrics`, { headers: { "X-API-Key": this.key } });
    const text = await response.text();
    return (name) => Number(text.split("\n").find((l) => l.startsWith(`shoal_replica_${name} `))?.split(" ").at(-1) ?? NaN);
  }
}

/** The three nodes, their names, and what is done with all of them. */
class Nodes {
  constructor(nodes) {
    this.all = nodes;
  }

  async learnNames() {
    for (const node of this.all) {
      const response = await fetch(`${node.url}/api/cluster`, { headers: { "X-API-Key": node.key } });
      node.name = response.headers.get("x-shoal-node");
    }
  }

  async counters() {
    const all = await Promise.all(this.all.map((node) => node.metrics()));
    return Object.fromEntries(COUNTERS.map((name) => [name, all.reduce((sum, m) => sum + m(`${name}_total`), 0)]));
  }

  /** Everything has its copies, nothing is under way, no copy is too many. */
  async settled() {
    await eventually("everything has its copies", async () => {
      const all = await Promise.all(this.all.map((node) => node.metrics()));
      return all.every((m) => m("ready") === 1 && m("entries") === m("full") && m("fetches") === 0 && m("orders") === 0 && m("extra") === 0);
    }, 600_000, 100);
  }

  /** Nodes that have a copy of a checkpoint (kind full) or of a hibernated sandbox. */
  async holders(kind) {
    const held = [];
    for (const node of this.all) if ((await node.metrics())(`held{kind="${kind}"}`) > 0) held.push(node);
    return held;
  }

  /** Set on @node; @asked, or each node, knows it. */
  async mark(node, mark, asked) {
    await this.all[0].call("POST", `/nodes/${node.name}/${mark}`);
    for (const other of asked ? [asked] : this.all) {
      await eventually(`${other.name} knows of the mark`, async () => {
        const row = (await other.call("GET", "/cluster")).nodes.find((n) => n.name === node.name);
        return row.mark === { drain: "draining", cordon: "cordoned", uncordon: "none" }[mark];
      }, 60_000, POLL_MS);
    }
  }

  /** What is placed, is placed on @node. */
  async only(node) {
    for (const other of this.all) await this.mark(other, other === node ? "uncordon" : "cordon");
  }

  async unmark() {
    for (const node of this.all) await this.mark(node, "uncordon");
  }
}

async function timed(action) {
  const start = performance.now();
  const value = await action();
  return [performance.now() - start, value];
}

let seed = 0;

/** The guest writes so many MiB that no node has: half random, half text. */
async function fill(node, id, size) {
  const half = Math.max(1, Math.round(size / 2));
  seed++;
  const command = options.local
    ? `fill ${size} ${seed}`
    : `head -c ${half}M /dev/urandom >/dev/shm/random && seq ${seed}000000 99999999 | head -c ${half}M >/dev/shm/text && sync`;
  const { exitCode, stderr } = await node.call("POST", `/sandboxes/${id}/exec/run`, { cmd: "sh", args: ["-c", command], timeout: 300 });
  if (exitCode !== 0) throw new Error(`the guest could not write: ${stderr}`);
}

async function create(nodes, node) {
  await nodes.only(node);
  const { sandboxID, workerID } = await node.call("POST", "/sandboxes", { templateID: "minimal", memoryMB: 512, timeout: 0 });
  await nodes.unmark();
  if (workerID !== node.name) throw new Error(`the sandbox was made on ${workerID}, not on ${node.name}`);
  return sandboxID;
}

async function checkpoint(node, id, name) {
  const [answered, { id: made }] = await timed(() => node.call("POST", `/sandboxes/${id}/checkpoints`, { name }));
  const row = async () => (await node.call("GET", `/sandboxes/${id}/checkpoints`)).find((c) => c.id === made);
  const start = performance.now() - answered;
  await eventually("the checkpoint is ready", async () => (await row()).status === "ready", 600_000, POLL_MS);
  const ready = performance.now() - start;
  await eventually("it is replicated", async () => (await row()).durability?.state === "replicated", 600_000, POLL_MS);
  return { made, answered, ready, replicated: performance.now() - start };
}

/** Looks how the bytes come, until stopped: the time from the first to the last of them. */
class Watch {
  constructor(nodes) {
    this.nodes = nodes;
    this.task = this.run();
  }

  async run() {
    let before = (await this.nodes.counters()).wire_bytes;
    while (!this.isOver) {
      const { wire_bytes: now } = await this.nodes.counters();
      const at = performance.now();
      if (now !== before) {
        this.first ??= this.looked;
        this.last = at;
      }
      this.looked = at;
      before = now;
      await sleep(WATCH_MS);
    }
  }

  async stop() {
    this.isOver = true;
    await this.task;
    return this.last - this.first;
  }
}

/** A checkpoint of a guest of 512 MiB until it is on two nodes. */
async function copies(nodes) {
  const owner = nodes.all[0];
  const id = await create(nodes, owner);
  const runs = [];
  for (let i = 0; i <= rounds; i++) {
    await fill(owner, id, mib);
    await nodes.settled();
    const before = await nodes.counters();
    const watch = new Watch(nodes);
    const times = await checkpoint(owner, id, `copies-${i}`);
    const coming = await watch.stop();
    await nodes.settled();
    const after = await nodes.counters();
    const moved = Object.fromEntries(COUNTERS.map((name) => [name, after[name] - before[name]]));
    if (i > 0) runs.push({ ...times, ...moved, coming });
    await owner.call("DELETE", `/sandboxes/${id}/checkpoints/${times.made}`);
  }
  await owner.call("DELETE", `/sandboxes/${id}`);
  const sum = (name) => runs.reduce((all, run) => all + run[name], 0);
  return {
    answered_ms: summary(runs.map((r) => r.answered)), ready_ms: summary(runs.map((r) => r.ready)),
    replicated_ms: summary(runs.map((r) => r.replicated)),
    copy_mib_s: summary(runs.map((r) => r.missing_bytes / MIB / ((r.replicated - r.ready) / 1000))),
    coming_ms: summary(runs.map((r) => r.coming)),
    coming_mib_s: summary(runs.map((r) => r.missing_bytes / MIB / (r.coming / 1000))),
    mib: sum("missing_bytes") / MIB / rounds, fetched_mib: sum("fetched_bytes") / MIB / rounds, wire_mib: sum("wire_bytes") / MIB / rounds,
    fetched_per_missing: sum("fetched_bytes") / sum("missing_bytes"), wire_per_missing: sum("wire_bytes") / sum("missing_bytes"),
  };
}

async function hibernate(nodes, node, id) {
  await node.call("POST", `/sandboxes/${id}/hibernate`);
  await eventually("it is replicated", async () =>
    (await node.call("GET", `/sandboxes/${id}`)).durability?.state === "replicated", 600_000, POLL_MS);
  await nodes.settled();
}

/** Tried until the log knows that any node may wake it; the time is that of the last attempt. */
async function wake(node, id) {
  return eventually("it may be woken", async () => {
    const [ms, woken] = await timed(() => node.call("POST", `/sandboxes/${id}/wake`, {}, [200, 503]));
    return woken.sandboxID === id && [ms, woken];
  }, 60_000, POLL_MS);
}

/** Wakes of one sandbox: where it is, on the other node that has it, on the one that has to fetch it. */
async function wakes(nodes) {
  const times = { own: [], holder: [], fetch: [] };
  let at = nodes.all[0];
  const id = await create(nodes, at);
  for (let i = 0; i <= rounds; i++) {
    for (const kind of ["own", "holder", "fetch"]) {
      await fill(at, id, Math.ceil(mib / 4));
      await hibernate(nodes, at, id);
      const holders = await nodes.holders("hibernation");
      const holder = holders.find((node) => node !== at);
      const third = nodes.all.find((node) => node !== at && node !== holder);
      const wanted = kind === "own" ? at : kind === "holder" ? holder : third;
      if (holders.length !== 2 || !holder) throw new Error(`copies on ${holders.length} nodes, not 2`);
      if (kind === "fetch") await nodes.mark(holder, "cordon");
      if (kind !== "own") await nodes.mark(at, "drain", wanted);
      const [ms, woken] = await wake(wanted, id);
      await nodes.unmark();
      if (woken.workerID !== wanted.name) throw new Error(`it woke on ${woken.workerID}, not on ${wanted.name} (${kind})`);
      if (i > 0) times[kind].push(ms);
      at = wanted;
    }
  }
  await at.call("DELETE", `/sandboxes/${id}`);
  await nodes.settled();
  return times;
}

/** Forks of one checkpoint, the same way. */
async function forks(nodes) {
  const times = { own: [], holder: [], fetch: [] };
  const owner = nodes.all[0];
  const id = await create(nodes, owner);
  for (let i = 0; i <= rounds; i++) {
    await fill(owner, id, Math.ceil(mib / 4));
    const { made } = await checkpoint(owner, id, `fork-${i}`);
    await nodes.settled();
    const holder = (await nodes.holders("full")).find((node) => node !== owner);
    const third = nodes.all.find((node) => node !== owner && node !== holder);
    for (const [kind, node] of [["own", owner], ["holder", holder], ["fetch", third]]) {
      await nodes.only(node);
      const [ms, fork] = await timed(() => node.call("POST", `/sandboxes/from-checkpoint/${made}`, { timeout: 0 }));
      await nodes.unmark();
      if (fork.workerID !== node.name) throw new Error(`the fork is on ${fork.workerID}, not on ${node.name} (${kind})`);
      await node.call("DELETE", `/sandboxes/${fork.sandboxID}`);
      if (i > 0) times[kind].push(ms);
    }
    await owner.call("DELETE", `/sandboxes/${id}/checkpoints/${made}`);
    await nodes.settled();
  }
  await owner.call("DELETE", `/sandboxes/${id}`);
  return times;
}

/** What one of the programs that need no node has in its JSON. */
function figuresOf(program, size) {
  const dir = mkdtempSync(join(tmpdir(), "bench-replicate-"));
  try {
    const file = join(dir, "figures.json");
    const run = spawnSync(program, ["--mib", size, "--json", file], { encoding: "utf8" });
    if (run.status > 1 || run.status === null) throw new Error(`${program}: ${run.stderr}`);
    return JSON.parse(readFileSync(file, "utf8"));
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

function compare(what, times) {
  const all = Object.fromEntries(Object.entries(times).map(([kind, values]) => [kind, summary(values)]));
  console.log(line(`${what} on its own node`, all.own, "ms"));
  console.log(line(`${what} on the other with a copy`, all.holder, "ms"));
  console.log(line(`${what} on one that fetches first`, all.fetch, "ms"));
  const ratio = { holder: all.holder.p50 / all.own.p50, fetch: all.fetch.p50 / all.own.p50 };
  console.log(`${what}, medians against the own node: ${ratio.holder.toFixed(2)} with a copy, ${ratio.fetch.toFixed(2)} that fetches first`);
  return { ...all, ratio };
}

function report({ mesh, fetched }, copied, woken, forked) {
  const verdict = (isMet) => (isMet ? "met" : "missed");
  const best = Math.max(...mesh.sizes.map((size) => size.plain_mib_s));
  console.log(line("checkpoint answered", copied.answered_ms, "ms"));
  console.log(line("checkpoint ready here", copied.ready_ms, "ms"));
  console.log(line("checkpoint on two nodes", copied.replicated_ms, "ms"));
  console.log(`copied: ${copied.mib.toFixed(1)} MiB, ${copied.copy_mib_s.p50.toFixed(0)} MiB/s from ready to replicated, ` +
    `${copied.coming_mib_s.p50.toFixed(0)} MiB/s while bytes came (${copied.coming_ms.p50.toFixed(0)} ms): ` +
    `${(copied.coming_mib_s.p50 / best).toFixed(2)} of what plain CURVE moves here (${best.toFixed(0)} MiB/s)`);
  const moved = Math.max(copied.fetched_per_missing, copied.wire_per_missing);
  console.log(`per byte missing: ${copied.fetched_per_missing.toFixed(3)} fetched, ${copied.wire_per_missing.toFixed(3)} on the wire; ` +
    `bar: at most ${MOVED_BAR}: ${verdict(moved <= MOVED_BAR)}`);
  const wake = compare("wake", woken);
  const fork = compare("fork", forked);
  console.log(`stream of the mesh: ${mesh.worst_ratio.toFixed(2)} of plain CURVE; bar: at least ${STREAM_BAR}: ${verdict(mesh.worst_ratio >= STREAM_BAR)}`);
  console.log(`fetch of chunks, in turns: ${fetched.ratio.toFixed(2)} of plain CURVE; bar: at least ${TRANSFER_BAR}: ${verdict(fetched.ratio >= TRANSFER_BAR)}; ` +
    `${fetched.ratio_stored.toFixed(2)} of CURVE and storing`);
  finish({
    bench: "replicate", local: Boolean(options.local), rounds, guest_mib: mib, copies: copied, bar_moved: MOVED_BAR,
    wake, fork, plain_curve_mib_s: best, stream_ratio: mesh.worst_ratio, bar_stream: STREAM_BAR,
    transfer: fetched, bar_transfer: TRANSFER_BAR,
  }, moved <= MOVED_BAR && mesh.worst_ratio >= STREAM_BAR && fetched.ratio >= TRANSFER_BAR, options);
}

async function measure(links, nodes) {
  await nodes.learnNames();
  await nodes.unmark();
  const copied = await copies(nodes);
  const woken = await wakes(nodes);
  const forked = await forks(nodes);
  report(links, copied, woken, forked);
}

// Both block: before any connection is open.
const links = { mesh: figuresOf(options.stream, STREAM_MIB), fetched: figuresOf(options.transfer, TRANSFER_MIB) };
if (!options.local) {
  const nodes = new Nodes(options.node.map((url) => new Node(url, options.key)));
  try {
    await measure(links, nodes);
  } finally {
    await nodes.unmark().catch(() => {});
  }
} else {
  const cluster = new Cluster();
  cluster.prepare = prepare;
  try {
    await cluster.start(3);
    await measure(links, new Nodes(cluster.nodes.map((node) => new Node(node.url, cluster.key))));
  } catch (error) {
    process.env.KEEP = "1"; // the logs of all nodes
    console.error(`${error.message} ${error.cause ?? ""} (logs: ${cluster.dir})`);
    process.exitCode = 2;
  } finally {
    await cluster.end();
  }
}
