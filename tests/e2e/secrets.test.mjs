// Secret stores (contract 11) through the SDK: the guest sees sealed tokens alone, and the value is on no disk.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { SecretStore } from "@opencomputer/sdk";
import { apiKey, apiUrl, cleanUp, createBox, forkBox, noNode, sh, suite, takeTurn, waitReady } from "./lib/shoal.mjs";
import { noMachine, onNode } from "./lib/node.mjs";

await takeTurn();

const at = { apiKey, apiUrl };
const VALUE = `sk-${randomUUID()}`;
const SEALED = /^osb_sealed_[0-9a-f]{32}\n$/;

describe("secrets", { ...suite, skip: noNode }, () => {
  let store, box;
  before(async () => {
    if (!noMachine) await onNode("touch /tmp/secrets-begin");
    store = await SecretStore.create({ ...at, name: `store-${randomUUID().slice(0, 8)}` });
    await SecretStore.setSecret(store.id, "API_KEY", VALUE, at);
    box = await createBox({ secretStore: store.name });
  });
  after(async () => {
    await cleanUp();
    if (store) await SecretStore.delete(store.id, at);
  });

  test("what is set is listed, and never returned", async () => {
    const shown = JSON.stringify([
      await SecretStore.list(at), await SecretStore.get(store.id, at), await SecretStore.listSecrets(store.id, at),
    ]);
    assert.match(shown, /"API_KEY"/);
    assert.ok(!shown.includes(VALUE));
    await SecretStore.setSecret(store.id, "OTHER", "x", at);
    await SecretStore.deleteSecret(store.id, "OTHER", at);
    assert.deepEqual((await SecretStore.listSecrets(store.id, at)).map((one) => one.name), ["API_KEY"]);
    await assert.rejects(SecretStore.create({ ...at, name: store.name }), /409/);
    await assert.rejects(createBox({ secretStore: "no-such-store" }), /400/);
  });

  test("a guest has a token of its own, also after a hibernation; a fork has another", async () => {
    const token = await sh(box, "printenv API_KEY");
    assert.match(token, SEALED);
    await box.hibernate();
    await box.wake();
    assert.equal(await sh(box, "printenv API_KEY"), token);
    const { id } = await box.createCheckpoint("with-a-secret");
    await waitReady(box, id);
    const fork = await forkBox(id);
    const other = await sh(fork, "printenv API_KEY");
    assert.match(other, SEALED);
    assert.notEqual(other, token);
  });

  // Hibernations and checkpoints are in the data folder, with the memory of the guest.
  test("the value is in no file of the node and in none of its logs", { skip: noMachine }, async () => {
    await box.hibernate();
    const found = await onNode(
      "cd /var/lib/shoal; find . /run/shoal* /var/log -type f -newer /tmp/secrets-begin -size -2049M >/tmp/secrets-files; " +
      `xargs -r grep -laF ${VALUE} </tmp/secrets-files; wc -l </tmp/secrets-files`);
    const lines = found.trim().split("\n");
    assert.equal(lines.length, 1, found);
    assert.ok(Number(lines[0]) > 5, `${lines[0]} files were looked at`);
  });
});
