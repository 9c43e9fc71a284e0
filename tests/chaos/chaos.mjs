// Random faults under load: real daemons, real processes, the unmodified SDK; fake-vmm in place of
// KVM. Nothing outlives it: all is in namespaces of its own. At the end everything is healed, and
// what users were told is compared with what is there.
//
// Faults: kill (the daemon), lose (the daemon and its VMs, as without power), pause (SIGSTOP),
// partition (of one node from all), full disk. At most a minority of the nodes at once.
//
// usage: node tests/chaos/chaos.mjs [--nodes 5] [--seconds 600] [--faults 200] [--seed N]
//                                   [--users 6] [--sandboxes 4] [--keep]
//   --sandboxes  of each user at most
//   --keep       leave the folder with data and logs
// CHAOS_HOLD set: stays as it is for an hour when something was lost, for looking at it.
// Needs root (network and mount namespaces of its own), SHOALD as tests/cluster, and tests/e2e's
// node_modules. Prints a table; exit code 1 when something acknowledged is lost or something leaks.
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { setTimeout as sleep } from "node:timers/promises";

const { values: options } = parseArgs({ options: {
  nodes: { type: "string", default: "5" }, seconds: { type: "string", default: "600" },
  faults: { type: "string", default: "200" }, seed: { type: "string", default: String(Date.now() % 1e6) },
  users: { type: "string", default: "6" }, sandboxes: { type: "string", default: "4" },
  keep: { type: "boolean", default: false },
} });
const number = (name) => {
  const value = Number(options[name]);
  if (!Number.isInteger(value) || value < 0) {
    console.error(`chaos: --${name} takes a number, not '${options[name]}'`);
    process.exit(2);
  }
  return value;
};
const [nodes, seconds, faults, seed, users, sandboxes] = ["nodes", "seconds", "faults", "seed", "users", "sandboxes"].map(number);
if (nodes < 3 || nodes > 9 || seconds < 1 || users < 1) {
  console.error("chaos: takes 3 to 9 nodes, and at least one second and one user");
  process.exit(2);
}

if (process.env.CHAOS_INSIDE !== "yes") {
  const run = spawnSync("unshare", ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private",
    process.execPath, fileURLToPath(import.meta.url), ...process.argv.slice(2)],
    { stdio: "inherit", env: { ...process.env, CHAOS_INSIDE: "yes" } });
  process.exit(run.status ?? 1);
}

const { Bed, eventually } = await import("./bed.mjs");
const { Load, inTime } = await import("./load.mjs");

/** Deterministic: mulberry32. */
function randomOf(start) {
  let a = start >>> 0;
  const unit = () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  const below = (n) => Math.floor(unit() * n);
  return { below, pick: (list) => list[below(list.length)] };
}

const KINDS = ["kill", "lose", "pause", "partition", "full disk"];
const began = Date.now();
const log = (text) => console.log(`${((Date.now() - began) / 1000).toFixed(1).padStart(7)} s  ${text}`);

/** When, what, where, for how long: all from the seed. */
function schedule(random) {
  return Array.from({ length: faults }, () => ({
    atMs: random.below(seconds * 1000), kind: random.pick(KINDS), node: random.below(nodes), forMs: 1000 + random.below(7000),
  })).sort((a, b) => a.atMs - b.atMs);
}

const busy = new Map(); // nodes that something is wrong with
const done = Object.fromEntries(KINDS.map((kind) => [kind, 0]));
const surprises = [];

async function inflict(bed, fault, node) {
  done[fault.kind]++;
  if (node.exit !== undefined) { // it ended by itself before, on a full disk perhaps
    surprises.push(`${node.name} had ended with ${node.exit}`);
    await node.start();
  }
  switch (fault.kind) {
    case "kill":
      await node.stop("SIGKILL");
      await sleep(fault.forMs);
      await node.start();
      break;
    case "lose":
      await node.lose();
      bed.lastLoss = Date.now();
      await sleep(fault.forMs);
      await node.start();
      break;
    case "pause":
      node.pause();
      await sleep(fault.forMs);
      node.resume();
      break;
    case "partition":
      bed.part(node, true);
      await sleep(fault.forMs);
      bed.part(node, false);
      break;
    default:
      node.fill();
      await sleep(fault.forMs);
      node.empty();
  }
}

/** At most a minority at once; the next fault waits for its node. */
async function play(bed, faultsDue) {
  const running = [];
  const start = Date.now();
  for (const fault of faultsDue) {
    await sleep(Math.max(0, start + fault.atMs - Date.now()));
    await eventually("a node is whole", () => busy.size < Math.floor((nodes - 1) / 2) || null, 120_000, 20);
    let at = fault.node;
    while (busy.has(at)) at = (at + 1) % nodes;
    busy.set(at, fault.kind);
    const node = bed.nodes[at];
    running.push(inflict(bed, fault, node).catch((error) => surprises.push(`${fault.kind} of ${node.name}: ${error.message}`))
      .finally(() => busy.delete(at)));
  }
  await Promise.all(running);
}

const sum = (list, name) => list.reduce((total, holdings) => total + holdings[name], 0);

async function main() {
  const random = randomOf(seed);
  const bed = await new Bed().start(nodes);
  const faultsDue = schedule(random);
  const load = new Load(bed, randomOf(seed + 1), sandboxes);
  log(`${nodes} nodes, seed ${seed}: ${faults} faults over ${seconds} s, ${users} users`);
  const working = Array.from({ length: users }, () => load.user());
  const ticker = setInterval(() => log(`${Object.values(done).reduce((a, b) => a + b)} faults, ${load.book.size} sandboxes, ` +
    `${Object.values(load.counts).reduce((a, c) => a + c.ok, 0)} calls done, now ${[...busy.values()].join(", ") || "all well"}`), 30_000);
  await play(bed, faultsDue);
  await sleep(Math.max(0, began + seconds * 1000 - Date.now()));
  load.stopped = true;
  await Promise.all(working);
  clearInterval(ticker);

  log("healing");
  for (const node of bed.nodes) {
    if (node.exit !== undefined) {
      surprises.push(`${node.name} had ended with ${node.exit}`);
      await node.start();
    }
  }
  const healed = Date.now();
  await bed.cluster.settled(bed.nodes, 180_000);
  log(`settled ${Date.now() - healed} ms after the last fault`);

  // what users were told
  const lost = load.faults;
  const fate = { "as they were told": 0, "lost with their machine, and say so": 0 };
  await Promise.all([...load.book.values()].map(async (box) => {
    let answer, why = "";
    const works = await eventually(`${box.id} answers`, async () => {
      answer = await load.raw("GET", `/sandboxes/${box.id}`).catch((error) => ({ failed: error.message }));
      if (box.isEnding && (answer.status === 404 || answer.body?.status === "stopped")) return "ended";
      if (answer.body?.status === "error") return box.isDurable ? null : "error"; // that one is brought back
      if (!answer.body) return null;
      const value = await inTime(load.sdk(box).then((sandbox) => sandbox.exec.run("get"))).catch((error) => { why = error.message; return null; });
      if (value && value.exitCode !== 0) why = `${JSON.stringify(value)}`;
      return value?.exitCode === 0 ? { n: Number(value.stdout.trim()) } : null;
    }, 120_000, 500).catch(() => null);
    if (works === null) lost.push(`${box.restore ? "restore " : ""}${box.id} does not answer: ${JSON.stringify(answer?.body ?? answer)} ${why}`);
    else if (works === "error") {
      // a running one whose machine lost its power, and that did not ask to come back
      if (box.isDurable || !(bed.lastLoss > 0) || box.asleep > bed.lastLoss) lost.push(`${box.id} is in error: ${answer.body.errorReason ?? answer.body.error ?? JSON.stringify(answer.body)}`);
      else fate["lost with their machine, and say so"]++;
    } else {
      if (works !== "ended") load.judge(box, works.n, "at the end");
      fate["as they were told"]++;
    }
  }));
  log("sandboxes compared");
  if (process.env.CHAOS_HOLD && lost.length) {
    for (const fault of lost) console.log(`LOST: ${fault.replace(/"token":"[^"]*",/, "")}`);
    log(`held: ${bed.dir}`);
    await sleep(3_600_000);
  }
  const listed = (await load.raw("GET", "/sandboxes")).body;
  for (const sandbox of listed) if (load.deleted.has(sandbox.sandboxID)) lost.push(`${sandbox.sandboxID} was deleted and is ${sandbox.status}`);
  let forked = 0;
  for (const checkpoint of load.checkpoints) {
    if (load.deleted.has(checkpoint.box) || !load.book.has(checkpoint.box) || load.book.get(checkpoint.box).isEnding) continue;
    const fork = await eventually(`checkpoint ${checkpoint.id} is forked`, async () => {
      const answer = await load.raw("POST", `/sandboxes/from-checkpoint/${checkpoint.id}`, { timeout: 0 }).catch(() => null);
      return answer?.status === 201 ? answer.body : null;
    }, 60_000, 500).catch(() => null);
    if (!fork) {
      lost.push(`checkpoint ${checkpoint.id} of ${checkpoint.box} cannot be forked`);
      continue;
    }
    forked++;
    await load.raw("DELETE", `/sandboxes/${fork.sandboxID}`);
  }

  log("checkpoints compared");

  // what stays when everything is deleted
  const ids = new Set([...load.book.keys(), ...load.deleted, ...listed.map((sandbox) => sandbox.sandboxID)]);
  const dropCheckpoints = async (id) => { // they outlive their sandbox
    const { body } = await load.raw("GET", `/sandboxes/${id}/checkpoints`).catch(() => ({ body: [] }));
    for (const checkpoint of Array.isArray(body) ? body : []) await load.raw("DELETE", `/sandboxes/${id}/checkpoints/${checkpoint.id}`).catch(() => {});
  };
  const unknown = listed.filter((sandbox) => !load.book.has(sandbox.sandboxID));
  const clean = await eventually("nothing is left", async () => {
    const { body } = await load.raw("GET", "/sandboxes").catch(() => ({ body: null }));
    if (!body) return null;
    for (const sandbox of body) if (sandbox.status !== "stopped") await load.raw("DELETE", `/sandboxes/${sandbox.sandboxID}`).catch(() => {});
    for (const id of ids) await dropCheckpoints(id);
    const left = bed.nodes.map((node) => node.holdings());
    return Object.keys(left[0]).every((name) => sum(left, name) === 0);
  }, 120_000, 1000).catch(() => false);
  const left = bed.nodes.map((node) => node.holdings());
  const leaks = Object.keys(left[0]).filter((name) => sum(left, name) > 0);
  const fds = bed.nodes.map((node) => node.fds());
  await bed.end();
  const reports = bed.sanitizers(); // leaks are told at the end

  console.log(`\n## ${nodes} nodes, ${Object.values(done).reduce((a, b) => a + b)} faults over ${seconds} s, seed ${seed}\n`);
  console.log("| fault | times |\n|---|---|");
  for (const kind of KINDS) console.log(`| ${kind} | ${done[kind]} |`);
  const anew = bed.nodes.reduce((sum, node) => sum + node.events("log_disk_back").length, 0);
  console.log(`| nodes that started anew since their log had met a full disk | ${anew} |`);
  console.log("\n| call | done | failed | slowest that was done, ms | last failure |\n|---|---|---|---|---|");
  for (const [name, count] of Object.entries(load.counts)) console.log(`| ${name} | ${count.ok} | ${count.failed} | ${count.worst} | ${count.last ?? ""} |`);
  console.log("\n| what users were told | |\n|---|---|");
  console.log(`| sandboxes at the end | ${load.book.size} |`);
  for (const [name, count] of Object.entries(fate)) console.log(`| ${name} | ${count} |`);
  console.log(`| deleted ones | ${load.deleted.size} |\n| creates that were not answered but happened | ${unknown.length} |`);
  console.log(`| checkpoints that were durable, forked | ${forked} |\n| **lost although acknowledged** | ${lost.length} |`);
  console.log("\n| left when all is deleted | " + bed.nodes.map((node) => node.name).join(" | ") + " |\n|---|" + "---|".repeat(nodes));
  for (const name of Object.keys(left[0])) console.log(`| ${name} | ${left.map((holdings) => holdings[name]).join(" | ")} |`);
  console.log(`| descriptors of the daemon | ${fds.join(" | ")} |`);
  console.log(`\nsurprises: ${surprises.length ? `\n- ${surprises.join("\n- ")}` : "none"}`);
  for (const fault of lost) console.log(`LOST: ${fault}`);
  for (const name of leaks) console.log(`LEAK: ${name}`);
  for (const node of reports) console.log(`SANITIZER: ${node.name}, see ${node.log}`);
  const ok = lost.length === 0 && leaks.length === 0 && clean && reports.length === 0;
  console.log(ok ? "\nok" : "\nnot ok");
  if (options.keep || !ok) console.log(`logs: ${bed.dir}`);
  else bed.remove();
  process.exit(ok ? 0 : 1);
}

await main();
