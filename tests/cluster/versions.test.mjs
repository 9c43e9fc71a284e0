// Nodes of several versions, and data of newer ones: real daemons.
import { describe, it } from "node:test";
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import assert from "node:assert/strict";
import { eventually, suite, withCluster } from "./cluster.mjs";

const shoald = process.env.SHOALD ?? fileURLToPath(new URL("../../build/asan/node/shoald", import.meta.url));
const newerEntry = join(dirname(shoald), "../tests/cluster/newer-entry");
const versions = (list) => (node) => {
  if (list[node.index - 1]) node.options = ["--mesh-versions", list[node.index - 1]];
};

/** Every file below, with what it holds. */
function contents(dir) {
  return readdirSync(dir, { recursive: true }).map(String).sort().map((name) => {
    const path = join(dir, name);
    return statSync(path).isFile() ? `${name} ${readFileSync(path).toString("base64")}` : name;
  }).join("\n");
}

describe("versions", suite, () => {
  it("n and n + 1 work together, whoever leads, one upgraded after the other", withCluster(3, async (cluster) => {
    const spoken = () => cluster.nodes.map((node) => node.events("link_up").at(-1)?.version);
    assert.ok(spoken().every((version) => version === 2), `${spoken()}`);
    for (const node of cluster.nodes) { // a rolling upgrade
      node.options = ["--mesh-versions", "2-3"];
      await node.stop();
      await node.start();
      await cluster.settled();
      const mark = node === cluster.nodes[1] ? "uncordon" : "cordon";
      assert.equal((await node.call("POST", "/api/nodes/node-2/" + mark)).status, 200);
    }
    await eventually("all speak the newer one", () => {
      const last = cluster.nodes.at(-1).text().split("\n").filter((line) => line.includes('"event":"link_up"')).slice(-2);
      return last.length === 2 && last.every((line) => JSON.parse(line).version === 3);
    });
    const [first] = cluster.nodes;
    await first.stop(); // two versions apart: refused with a reason
    first.options = ["--mesh-versions", "1-1"];
    await first.start();
    await eventually("it is told why", () => cluster.nodes.some((node) => /no protocol version is known to both sides/.test(node.text())));
    await first.stop();
    first.options = ["--mesh-versions", "2-3"];
    await first.start();
    await cluster.settled();
  }, versions(["1-2", "1-2", "2-3"])));

  it("data of a newer version are refused, and not touched", withCluster(1, async (cluster) => {
    const [node] = cluster.nodes;
    await node.stop();
    const data = join(node.dir, "data");
    assert.equal(readFileSync(join(data, "format"), "utf8"), "1\n");
    writeFileSync(join(data, "format"), "2\n");
    const before = contents(data);
    assert.match(await node.refused(), /this data folder has format 2 .*, this shoald knows up to 1: a newer version has used it/);
    assert.equal(contents(data), before);
    for (const text of ["", "1", "x\n", "9".repeat(100)]) {
      writeFileSync(join(data, "format"), text);
      assert.match(await node.refused(), /format is damaged|has format/);
    }
    const other = cluster.node(2);
    mkdirSync(join(other.dir, "data"));
    writeFileSync(join(other.dir, "data", "format"), "7\n");
    assert.match(await other.refused(), /has format 7/);
    assert.deepEqual(readdirSync(join(other.dir, "data")), ["format"]);
    writeFileSync(join(data, "format"), "1\n");
    await node.start();
    assert.ok(await node.status());
  }));

  it("an entry of a newer version stops a node's part in the log, and nothing else", { skip: existsSync(newerEntry) ? false : `${newerEntry} is not built` },
    withCluster(1, async (cluster) => {
      const [node] = cluster.nodes;
      const { appliedIndex, digest } = (await node.status()).scheduler;
      await node.stop("SIGKILL");
      assert.equal(spawnSync(newerEntry, [join(node.dir, "data")]).status, 0);
      const rescue = spawnSync(shoald, ["--recover-cluster", "--data", join(node.dir, "data"), "--confirm", "x"], { encoding: "utf8" });
      assert.equal(rescue.status, 1, rescue.stdout);
      assert.match(rescue.stderr, /newer version of shoald: upgrade/);
      await node.start();
      await eventually("it says so", () => node.events("log_failed").some((event) => /newer version of shoald: upgrade/.test(event.what)));
      const now = (await node.status()).scheduler;
      assert.ok(now.appliedIndex >= appliedIndex);
      assert.equal(typeof digest, "string");
      assert.equal((await node.call("GET", "/api/sandboxes")).status, 200);
      assert.equal((await node.call("POST", "/api/join-tokens", {})).status, 503);
    }));
});
