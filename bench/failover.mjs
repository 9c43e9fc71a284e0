// How long a cluster of three is without a scheduler when the scheduler's process is killed; see
// bench/failover. Two things have to happen: another node reports a new scheduler, and an order
// given right after the kill is taken. The order is given once, to a node that lives: waiting and
// trying again is that node's business, and its pauses count.
import { closeSync, fsyncSync, openSync, writeSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { performance } from "node:perf_hooks";
import { Cluster, sleep } from "../tests/cluster/cluster.mjs";
import { finish, line, summary } from "./figures.mjs";

const POLL_MS = 5;
const BAR_MS = 1000;
const { values: options } = parseArgs({
  options: { check: { type: "boolean" }, kills: { type: "string", default: "50" }, json: { type: "string" } },
});
const kills = Number(options.kills);
if (!Number.isInteger(kills) || kills < 1) {
  console.error("--kills takes a number of at least 1");
  process.exit(2);
}

async function untilElected(nodes, old, start) {
  for (;;) {
    for (const node of nodes) {
      const leader = (await node.status())?.scheduler.leader;
      if (leader && leader !== old.name) return performance.now() - start;
    }
    await sleep(POLL_MS);
  }
}

async function untilTaken(node, path, start) {
  const { status, body } = await node.call("POST", path);
  if (status !== 200) throw new Error(`the order was refused: ${JSON.stringify(body)}`);
  return performance.now() - start;
}

async function round(cluster, count) {
  const [status] = await cluster.settled();
  const old = cluster.leader(status);
  const rest = cluster.nodes.filter((node) => node !== old);
  const path = `/api/nodes/${cluster.nodes[0].name}/${count % 2 ? "uncordon" : "cordon"}`;
  const start = performance.now();
  const killed = old.stop("SIGKILL");
  const [elected, taken] = await Promise.all([
    untilElected(rest, old, start), untilTaken(rest[count % 2], path, start),
  ]);
  await killed;
  await old.start();
  return { elected, taken, both: Math.max(elected, taken) };
}

/** What this disk needs to make 4 KiB durable: elections and orders wait for it. */
function syncTimes(dir) {
  const fd = openSync(join(dir, "sync"), "w");
  const times = Array.from({ length: 50 }, () => {
    const start = performance.now();
    writeSync(fd, Buffer.alloc(4096));
    fsyncSync(fd);
    return performance.now() - start;
  });
  closeSync(fd);
  return summary(times);
}

const cluster = await new Cluster().start(3);
const sync = syncTimes(cluster.dir);
const rounds = [];
try {
  for (let i = 0; i < kills; i++) rounds.push(await round(cluster, i));
  await cluster.settled();
} catch (error) {
  process.env.KEEP = "1"; // the logs of all nodes
  console.error(`after ${rounds.length} kills: ${error.message} (logs: ${cluster.dir})`);
  process.exitCode = 2;
} finally {
  await cluster.end();
}
if (process.exitCode) process.exit();
const elected = summary(rounds.map((r) => r.elected));
const taken = summary(rounds.map((r) => r.taken));
const both = summary(rounds.map((r) => r.both));
console.log(line("disk: 4 KiB made durable", sync, "ms", 1));
console.log(line("a new scheduler is reported", elected, "ms"));
console.log(line("an order is taken", taken, "ms"));
console.log(line("both", both, "ms"));
console.log(`bar: p99 below ${BAR_MS} ms: ${both.p99 < BAR_MS ? "met" : "missed"}`);
finish({ bench: "failover", unit: "ms", sync, elected, taken, both, bar_p99: BAR_MS, rounds: rounds.map((r) => Math.round(r.both)) }, both.p99 < BAR_MS, options);
