// What is left when the majority is lost, and backups: real daemons, and their offline commands.
import { describe, it } from "node:test";
import { spawnSync } from "node:child_process";
import { chmodSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import assert from "node:assert/strict";
import { eventually, suite, withCluster } from "./cluster.mjs";

const shoald = process.env.SHOALD ?? fileURLToPath(new URL("../../build/asan/node/shoald", import.meta.url));
const shoal = join(dirname(shoald), "../client/shoal");
const PATH = `${dirname(shoald)}:${process.env.PATH}`;

function cli(cluster, node, ...args) {
  return spawnSync(shoal, args, { encoding: "utf8", input: "no\n",
    env: { ...process.env, PATH, SHOAL_URL: node?.url ?? "", SHOAL_API_KEY: cluster.key } });
}

const data = (node) => join(node.dir, "data");

describe("rescue", suite, () => {
  it("a node whose majority is lost for good goes on alone, and the lost ones are refused", withCluster(3, async (cluster) => {
    const [first, second, third] = cluster.nodes;
    const id = (await first.status()).clusterId;
    const busy = cli(cluster, first, "cluster", "recover", "--data", data(first), "--confirm", id);
    assert.equal(busy.status, 1, busy.stdout);
    assert.match(busy.stderr, /another shoald uses the folder/);
    for (const node of cluster.nodes) await node.stop("SIGKILL");

    const asked = cli(cluster, null, "cluster", "recover", "--data", data(third));
    assert.equal(asked.status, 1, asked.stdout);
    assert.match(asked.stderr, /not confirmed/);
    for (const text of [id, "node-1", "node-2", "IS REMOVED", "stays", "last renewed its lease 20", "voters: 3, of which 1 stay", "What is lost"])
      assert.ok(asked.stdout.includes(text), `${text} in ${asked.stdout}`);
    const majority = cli(cluster, null, "cluster", "recover", "--data", data(third), "--with", "node-1", "--confirm", id);
    assert.equal(majority.status, 1);
    assert.match(majority.stderr, /that is a majority/);
    const nobody = cli(cluster, null, "cluster", "recover", "--data", data(third), "--with", "nobody", "--confirm", id);
    assert.match(nobody.stderr, /no node named "nobody"/);

    const done = cli(cluster, null, "cluster", "recover", "--data", data(third), "--confirm", id);
    assert.equal(done.status, 0, done.stderr);
    await third.start();
    const alone = await eventually("it schedules alone", async () => {
      const status = await third.status();
      return status?.scheduler.leader === "node-3" && status;
    });
    assert.equal(alone.clusterId, id);
    assert.deepEqual(alone.scheduler.voters, ["node-3"]);
    assert.ok(alone.scheduler.term > 1000000);
    assert.match(await third.token(), /^shoal-join-/);
    assert.equal((await third.call("POST", "/api/nodes/node-3/cordon")).status, 200);

    // the old majority returns
    await first.start();
    await second.start();
    await eventually("they are told", () =>
      [first, second].every((node) => /removed for good|was removed from the cluster/.test(node.text())));
    const after = await third.status();
    assert.deepEqual(after.scheduler.voters, ["node-3"]);
    assert.deepEqual(after.nodes.map((node) => node.name), ["node-3"]);

    // and come back as new machines
    for (const node of [first, second]) await node.stop();
    first.wipe();
    await first.start("--join", await third.token());
    await cluster.settled([first, third]);
  }));

  it("what the cluster agrees on is backed up, and restored into an empty folder", withCluster(2, async (cluster) => {
    const [first] = cluster.nodes;
    const { clusterId } = await first.status();
    const file = join(cluster.dir, "backup");
    const made = cli(cluster, first, "cluster", "backup", file);
    assert.equal(made.status, 0, made.stderr);
    assert.equal(statSync(file).mode & 0o777, 0o600);
    const { status } = await fetch(`${first.url}/api/cluster/backup`);
    assert.equal(status, 401);

    const used = cli(cluster, null, "cluster", "restore", file, "--data", data(first), "--confirm", clusterId);
    assert.match(used.stderr, /is the data folder of a node/);
    const fresh = cluster.node(3);
    const restore = (path, confirm = clusterId) =>
      cli(cluster, null, "cluster", "restore", path, "--data", data(fresh), "--name", "node-3", "--confirm", confirm);
    const bytes = readFileSync(file);
    const bad = join(cluster.dir, "bad");
    for (const [what, content, why] of [
      ["nothing", Buffer.alloc(0), /not a backup/],
      ["another file", Buffer.from("x".repeat(5000)), /not a backup/],
      ["cut off", bytes.subarray(0, bytes.length - 100), /cut off/],
      ["a flipped bit", Buffer.from(bytes.map((b, i) => (i === bytes.length - 200 ? b ^ 1 : b))), /checksum/],
      ["a newer format", Buffer.from(bytes.map((b, i) => (i === bytes.indexOf("\xa1v", 0, "latin1") + 2 ? 2 : b))), /format 2, this shoald reads 1/],
    ]) {
      writeFileSync(bad, content);
      const refused = restore(bad);
      assert.equal(refused.status, 1, what);
      assert.match(refused.stderr, why, what);
    }
    assert.match(restore(file, "0".repeat(32)).stderr, /not confirmed/);
    for (const [why, ...args] of [
      [/--with belongs to --recover-cluster/, "--restore-cluster", file, "--with", "node-2"],
      [/--confirm belongs to/, "--version", "--confirm", clusterId],
    ]) assert.match(spawnSync(shoald, [...args, "--data", data(fresh)], { encoding: "utf8", input: "" }).stderr, why);
    const held = spawnSync("flock", [join(data(fresh), "lock"), shoal, "cluster", "restore", file, "--data", data(fresh)],
      { encoding: "utf8", input: "", env: { ...process.env, PATH } }); // another one is about to use it
    assert.match(held.stderr, /another shoald uses the folder/);
    assert.match(restore(join(cluster.dir, "absent")).stderr, /cannot read/);
    const done = restore(file);
    assert.equal(done.status, 0, done.stderr);
    assert.match(done.stdout, /1 API keys/);

    for (const node of cluster.nodes) await node.stop("SIGKILL");
    await fresh.start();
    const now = await eventually("the cluster is there again, with its key", async () => {
      const seen = await fresh.status();
      return seen?.scheduler.leader && seen;
    });
    assert.equal(now.clusterId, clusterId);
    assert.equal(now.nodes.length, 1);
    const joined = await cluster.node(4).start("--join", await fresh.token());
    await cluster.settled([fresh, joined]);
  }));
});
