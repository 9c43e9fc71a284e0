// Through another node against the owner: see bench/anynode.
import { Agent, request } from "node:http";
import { parseArgs } from "node:util";
import { performance } from "node:perf_hooks";
import { finish, line, summary } from "./figures.mjs";

const WARM_UP = 50;
const BAR = 1.3;
const { values: options } = parseArgs({
  options: {
    owner: { type: "string" }, other: { type: "string" }, sandbox: { type: "string" }, key: { type: "string" },
    requests: { type: "string", default: "2000" }, check: { type: "boolean" }, json: { type: "string" },
  },
});
const count = Number(options.requests);
if (!options.owner || !options.other || !options.sandbox || !options.key || !Number.isInteger(count) || count < 1) {
  console.error("usage: bench/anynode --owner URL --other URL --sandbox ID --key KEY [--requests N] [--check] [--json FILE]");
  process.exit(2);
}

class Target {
  constructor(url) {
    this.url = new URL(`/api/sandboxes/${options.sandbox}`, url);
    this.agent = new Agent({ keepAlive: true, maxSockets: 1 });
    this.times = [];
  }

  ask() {
    return new Promise((resolve, reject) => {
      const start = performance.now();
      request(this.url, { agent: this.agent, headers: { "X-API-Key": options.key } }, (response) => {
        response.resume().on("error", reject).on("end", () => resolve({
          ms: performance.now() - start, status: response.statusCode, servedBy: response.headers["x-shoal-node"],
        }));
      }).on("error", reject).end();
    });
  }
}

const owner = new Target(options.owner);
const other = new Target(options.other);
const served = new Map();
for (let i = 0; i < WARM_UP + count; i++) {
  for (const target of i % 2 ? [owner, other] : [other, owner]) {
    const { ms, status, servedBy } = await target.ask();
    if (status !== 200) throw new Error(`${target.url} answered ${status}`);
    served.set(target, servedBy);
    if (i >= WARM_UP) target.times.push(ms * 1000);
  }
}
owner.agent.destroy();
other.agent.destroy();
if (served.get(owner) !== served.get(other)) {
  console.error(`the requests were served by ${served.get(owner)} and ${served.get(other)}: not the same owner`);
  process.exit(2);
}
const direct = summary(owner.times);
const through = summary(other.times);
const ratio = { p50: through.p50 / direct.p50, p99: through.p99 / direct.p99 };
console.log(line("the owner itself", direct, "us"));
console.log(line("through another node", through, "us"));
console.log(`ratio: p50 ${ratio.p50.toFixed(2)}, p99 ${ratio.p99.toFixed(2)}; bar: p50 below ${BAR}: ${ratio.p50 < BAR ? "met" : "missed"}`);
finish({ bench: "anynode", unit: "us", owner: direct, other: through, ratio, bar_p50: BAR }, ratio.p50 < BAR, options);
