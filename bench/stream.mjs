// bench/stream --local: two daemons with fake-vmm, whose agent is a process of this machine, and
// the same program at the raw side; so nothing differs but the node, and the mesh for the other one.
import { spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { Cluster } from "../tests/cluster/cluster.mjs";
import { create, ownerOf, prepare, removeAll } from "../tests/cluster/fake.mjs";

const build = join(dirname(process.env.SHOALD), "..");
const agent = join(build, "agent/shoal-agent");
const cluster = new Cluster();
cluster.prepare = (node) => {
  prepare(node);
  const folder = join(node.dir, "data", "templates", "minimal");
  writeFileSync(join(folder, "disk.raw"), "real_agent\n");
  cpSync(agent, join(folder, "shoal-agent"));
};
const work = mkdtempSync(join(tmpdir(), "bench-stream-"));
try {
  await cluster.start(2);
  await cluster.settled();
  const sandbox = await create(cluster.nodes[0]);
  const owner = await ownerOf(cluster, sandbox);
  const other = cluster.nodes.find((node) => node !== owner);
  const run = spawnSync(join(build, "bench/bench-stream"), ["--agent", agent, "--work", work, "--url", owner.url, "--other", other.url,
    "--key", cluster.key, "--sandbox", sandbox, ...process.argv.slice(2)], { stdio: "inherit" });
  process.exitCode = run.status ?? 2;
  await removeAll(cluster);
} finally {
  await cluster.end();
  rmSync(work, { recursive: true, force: true });
}
