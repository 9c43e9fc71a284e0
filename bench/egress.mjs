// Bytes per second through shoal-egress against socat: see bench/egress.
//
// The network is that of tests/egress: guest b has a secret for fast.example.com, guest c has none and
// gets one rule more, so that it reaches a socat beside the gateway. Every path is guest - node -
// server, with the same two programs at its ends (egress_ends.c).
import { spawn, spawnSync, execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { finish } from "./figures.mjs";

const root = join(import.meta.dirname, "..");
process.env.SHOALD = join(root, "build/release/node/shoald");
const { Net, TOKEN, VALUE } = await import("../tests/egress/net.mjs");
const ends = join(root, "build/release/bench/bench-egress_ends");
const { values: options } = parseArgs({
  options: {
    rounds: { type: "string", default: "5" }, mib: { type: "string", default: "256" },
    connections: { type: "string", default: "4" }, check: { type: "boolean" }, json: { type: "string" },
  },
});
const [rounds, mib, connections] = [options.rounds, options.mib, options.connections].map(Number);
if (![rounds, mib, connections].every((n) => Number.isInteger(n) && n > 0) || connections > 64) {
  console.error("usage: bench/egress [--check] [--rounds N] [--mib N] [--connections N] [--json FILE]");
  process.exit(2);
}
const SERVER = "203.0.113.8";
const STEP_SECONDS = 60;
// Of socat in the same round, median of the rounds: bytes per second at least, time of CPU at most.
const BARS = { spliced: { speed: 0.8, cpu: 1.3 }, intercepted: { speed: 0.25, cpu: 6 } };
const TICKS = Number(execFileSync("getconf", ["CLK_TCK"], { encoding: "utf8" }));
const net = new Net();

/** A process that says "ready". */
async function start(command, args) {
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "inherit"] });
  net.children.push(child);
  await new Promise((done, fail) => {
    const timer = setTimeout(() => fail(new Error(`${args.join(" ")} is not ready`)), 1000 * STEP_SECONDS);
    child.on("exit", (code) => fail(new Error(`${args.join(" ")} ended with ${code}`)));
    createInterface({ input: child.stdout }).once("line", () => { clearTimeout(timer); done(); });
  });
  return child;
}

const serve = (port, ...more) =>
  start("ip", ["netns", "exec", "net", ends, "serve", SERVER, `${port}`, ...more]);

/** socat makes a process for each connection; its times count when that one has ended. */
function startSocat(port, to) {
  const child = spawn("socat", ["-b", "65536", `TCP-LISTEN:${port},fork,reuseaddr,nodelay`, `TCP:${SERVER}:${to},nodelay`],
    { stdio: ["ignore", "inherit", "inherit"] });
  net.children.push(child);
  return child;
}

/** Seconds of CPU that a process and its ended children have used. */
function cpuSeconds(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").replace(/^.*\) /, "").split(" ");
  return (Number(fields[11]) + Number(fields[12]) + Number(fields[13]) + Number(fields[14])) / TICKS;
}

function load(guest, address, port, direction, tls) {
  const args = ["netns", "exec", guest, ends, "load", address, `${port}`, direction, `${(mib << 20) / connections}`,
    `${connections}`, `${STEP_SECONDS}`, ...(tls ? ["fast.example.com", join(net.dir, "guest.pem"), tls] : [])];
  const run = spawnSync("ip", args, { encoding: "utf8", timeout: 2000 * STEP_SECONDS, stdio: ["ignore", "pipe", "inherit"] });
  if (run.status !== 0) throw new Error(`${args.join(" ")} ended with ${run.status ?? run.signal}`);
  return Number(run.stdout) / 1e6;
}

const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1];

await net.start();
net.policy("b", "--secret", TOKEN, VALUE, "--to", "fast.example.com");
await serve(443, join(net.dir, "server.crt"), join(net.dir, "server.key"));
await serve(8001);
await serve(8002, join(net.dir, "server.crt"), join(net.dir, "server.key"));
const socats = { 9001: startSocat(9001, 8001), 9002: startSocat(9002, 8002) };
// redirected like the rest, but what comes is not TLS: it is spliced to where it was going
const nft = (line) => execFileSync("nft", [line]);
nft("insert rule inet shoal_10_201_0_0_16 guest_to_node iifname shl0000000c tcp dport { 9001, 9002 } accept");
nft(`insert rule inet shoal_10_201_0_0_16 to_egress iifname shl0000000b tcp dport 8001 redirect to :${net.port}`);

const gateway = () => net.gateway.pid;
const contenders = {
  "direct, raw": { run: (way) => load("c", SERVER, 8001, way) },
  "socat, raw": { run: (way) => load("c", "10.201.0.9", 9001, way), pid: () => socats[9001].pid },
  "spliced, raw": { run: (way) => load("b", SERVER, 8001, way), pid: gateway },
  "direct, TLS": { run: (way) => load("c", SERVER, 8002, way, "application/octet-stream") },
  "socat, TLS": { run: (way) => load("c", "10.201.0.9", 9002, way, "application/octet-stream"), pid: () => socats[9002].pid },
  "intercepted, bytes": { run: (way) => load("b", SERVER, 443, way, "application/octet-stream"), pid: gateway },
  "intercepted, text": { run: (way) => load("b", SERVER, 443, way, "application/json"), pid: gateway },
};
const figures = {};
for (let round = -1; round < rounds; round++) {
  for (const [name, { run, pid }] of Object.entries(contenders)) {
    for (const way of ["up", "down"]) {
      const before = pid ? cpuSeconds(pid()) : 0;
      const seconds = run(way);
      if (pid && name.startsWith("socat")) await new Promise((done) => setTimeout(done, 200)); // its children end
      const cpu = pid ? cpuSeconds(pid()) - before : 0;
      if (round < 0) continue; // not measured
      const one = (figures[`${name} ${way}`] ??= { mib_per_s: [], cpu_ms_per_mib: [] });
      one.mib_per_s.push(mib / seconds);
      one.cpu_ms_per_mib.push((1000 * cpu) / mib);
    }
  }
}
const stats = net.ctl("stats");
await net.stop();

const short = (number) => Number(number.toFixed(3));
/** Medians of @name over @base, both ways: rounds are compared one by one, since the machine may be busy. */
const ratio = (name, base) => Object.fromEntries(["up", "down"].map((way) => {
  const [one, other] = [figures[`${name} ${way}`], figures[`${base} ${way}`]];
  const of = (key) => short(median(one[key].map((value, round) => value / other[key][round])));
  return [way, { speed: of("mib_per_s"), cpu: of("cpu_ms_per_mib") }];
}));
const ratios = {
  spliced: ratio("spliced, raw", "socat, raw"),
  intercepted: ratio("intercepted, bytes", "socat, TLS"),
  intercepted_text: ratio("intercepted, text", "socat, TLS"),
};
for (const [name, one] of Object.entries(figures)) {
  for (const key of Object.keys(one)) one[key] = short(median(one[key]));
  console.log(`${name.padEnd(24)} ${one.mib_per_s.toFixed(0).padStart(6)} MiB/s` +
    (one.cpu_ms_per_mib ? `   CPU of the proxy ${one.cpu_ms_per_mib.toFixed(2)} ms per MiB` : ""));
}
let met = true;
for (const [name, one] of Object.entries(ratios)) {
  const bar = BARS[name];
  for (const [way, { speed, cpu }] of Object.entries(one)) {
    const good = !bar || (speed >= bar.speed && cpu <= bar.cpu);
    met &&= good;
    console.log(`${name} ${way}: ${speed} of socat's bytes per second, ${cpu} of its CPU` +
      (bar ? `; bar: at least ${bar.speed}, at most ${bar.cpu}: ${good ? "met" : "missed"}` : ""));
  }
}
const meant = { spliced: 2 * (rounds + 1) * connections, intercepted: 4 * (rounds + 1) * connections };
console.log(`connections: ${stats.spliced} spliced of ${meant.spliced}, ${stats.intercepted} intercepted of ${meant.intercepted}`);
met &&= Object.entries(meant).every(([name, count]) => stats[name] === count);
finish({ bench: "egress", rounds, mib, connections, figures, ratios, bars: BARS }, met, options);
process.exit();
