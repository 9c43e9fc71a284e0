// The metadata service (contract 15): asked from inside, it tells a sandbox of itself. The node answers
// (node/egress/metadata.h), so nothing in the guest takes the port that web servers want.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { SecretStore } from "@opencomputer/sdk";
import { apiKey, apiUrl, cleanUp, createBox, forkBox, getBox, noNode, sh, suite, takeTurn, template, waitReady } from "./lib/shoal.mjs";

await takeTurn();

const at = { apiKey, apiUrl };
const HOST = "http://169.254.169.254";
const ask = (box, path, flags = "") => sh(box, `curl -sS -m 20 ${flags} ${HOST}${path}`);
const nameOf = async (box) => JSON.parse(await ask(box, "/v1/status")).sandboxId;

describe("metadata", { ...suite, skip: noNode }, () => {
  const stores = [];
  let box;

  async function withStore(more) {
    const store = await SecretStore.create({ ...at, name: `metadata-${randomUUID().slice(0, 8)}`, ...more });
    stores.push(store.id);
    await SecretStore.setSecret(store.id, "API_KEY", "x", at);
    return createBox({ secretStore: store.name });
  }

  before(async () => {
    box = await createBox({ memoryMB: 768 });
  });
  after(async () => {
    await cleanUp();
    for (const id of stores) await SecretStore.delete(id, at);
  });

  test("status, limits and metadata are its own", async () => {
    const status = JSON.parse(await ask(box, "/v1/status"));
    assert.equal(status.sandboxId, box.sandboxId);
    assert.ok(Number.isInteger(status.uptime) && status.uptime >= 0);
    const limits = JSON.parse(await ask(box, "/v1/limits"));
    assert.equal(limits.memLimit, 768 << 20);
    assert.ok(limits.memUsage > 0 && limits.memUsage < limits.memLimit, JSON.stringify(limits));
    assert.ok(limits.pids >= 2 && limits.cpuPercent >= 0 && limits.netInput > 0 && limits.netOutput > 0, JSON.stringify(limits));
    const { region } = await getBox(box.sandboxId);
    assert.deepEqual(JSON.parse(await ask(box, "/v1/metadata")), { region, template });
    assert.ok(JSON.parse(await ask(box, "/")).endpoints.includes("/v1/limits"));
  });

  test("other paths and methods", async () => {
    const status = (path, flags = "") => ask(box, path, `-o /dev/null -w '%{http_code}' ${flags}`);
    assert.equal(await status("/latest/meta-data/"), "404");
    assert.equal(await status("/v1/status", "-X POST -d {}"), "405");
    assert.equal(await status("/v1/status", "-I"), "200");
  });

  test("port 80 is the sandbox's own, on all of its addresses", async () => {
    const out = await sh(box, "mkdir -p /tmp/site && echo mine >/tmp/site/index.html; " +
      "sudo busybox httpd -f -p 0.0.0.0:80 -h /tmp/site >/tmp/httpd.log 2>&1 & " +
      `for i in $(seq 50); do curl -sS http://127.0.0.1/index.html 2>/dev/null && break; sleep 0.2; done; cat /tmp/httpd.log; ` +
      `curl -sS ${HOST}/v1/status; sudo pkill -x busybox`);
    assert.match(out, /^mine\n\{"sandboxId":"sb-/);
  });

  test("no program of the guest listens for it, and it has no such address", async () => {
    const found = await sh(box, "grep FEA9FEA9 /proc/net/tcp; grep -F 169.254 /proc/net/fib_trie; true");
    assert.doesNotMatch(found, / 0A |169\.254/); // 0A: listens
  });

  test("it is still there after a hibernation, and a fork is another one", async () => {
    await box.hibernate();
    await box.wake();
    assert.equal(await nameOf(box), box.sandboxId);
    const { id } = await box.createCheckpoint("metadata");
    await waitReady(box, id);
    const fork = await forkBox(id);
    assert.equal(await nameOf(fork), fork.sandboxId);
    assert.equal(await nameOf(box), box.sandboxId);
    await fork.kill();
  });

  test("with secrets, and with an allowlist, with and without proxy variables", async () => {
    for (const more of [{}, { egressAllowlist: ["api.egress.test"] }]) {
      const other = await withStore(more);
      assert.equal(await nameOf(other), other.sandboxId);
      assert.equal(JSON.parse(await sh(other, `env -i PATH="$PATH" curl -sS -m 20 ${HOST}/v1/status`)).sandboxId, other.sandboxId);
      assert.ok(JSON.parse(await ask(other, "/v1/limits")).memLimit > 0);
      assert.equal(await ask(other, "/latest/meta-data/", "-o /dev/null -w '%{http_code}'"), "404");
      await other.kill();
    }
  });
});
