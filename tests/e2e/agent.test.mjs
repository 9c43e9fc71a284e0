// Agents (contract 13) through the SDK: the real wrapper and agent in a real guest of the template base, a
// model endpoint in the test (lib/model.mjs) that stands where api.anthropic.com would be (lib/internet.mjs),
// and the key in a secret store, so that the guest has a sealed token alone.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { SecretStore } from "@opencomputer/sdk";
import { apiKey, apiUrl, call, cleanUp, createBox, eventually, long, sh, suite, takeTurn } from "./lib/shoal.mjs";
import { noMachine } from "./lib/node.mjs";
import { Internet } from "./lib/internet.mjs";
import { modelHandler } from "./lib/model.mjs";

await takeTurn();

const at = { apiKey, apiUrl };
const KEY = `sk-ant-${randomUUID()}`;
const HOST = "api.anthropic.com";

/** Callbacks of a session, and what they heard. */
class Heard {
  events = [];
  log = "";
  replayed = 0;

  callbacks = {
    onEvent: (event) => this.events.push(event),
    onError: (text) => { this.log += text; },
    onScrollbackEnd: () => { this.replayed = this.events.length; },
  };

  all = (type) => this.events.filter((event) => event.type === type);
  types = () => this.events.map((event) => event.type);
  said = () => this.all("assistant").flatMap((event) => event.message.content)
    .filter((block) => block.type === "text").map((block) => block.text);

  async until(type, count = 1) {
    await eventually(`${count} times ${type}`, () => this.all(type).length >= count, 240_000).catch((error) => {
      throw new Error(`${error.message}: ${JSON.stringify(this.events).slice(-2000)} ${this.log.slice(-1000)}`);
    });
  }
}

describe("agents", suite, () => {
  after(cleanUp);

  test("without a key a session starts, says why it cannot go on, and ends", async () => {
    const bare = await createBox({ template: "base", memoryMB: 1024 });
    const heard = new Heard();
    const session = await bare.agent.start({ prompt: "say x", ...heard.callbacks });
    assert.equal(await session.done, 1);
    assert.deepEqual(heard.types(), ["error"]);
    assert.match(heard.events[0].message, /ANTHROPIC_API_KEY is not set/);
    const [listed] = await bare.agent.list();
    assert.equal(listed.sessionID, session.sessionId);
    assert.equal(listed.running, false);
    await bare.kill();
  });

  test("in a sandbox without the program a start is refused", async () => {
    const other = await createBox({ template: "minimal" });
    await assert.rejects(other.agent.start({ prompt: "say x" }), /400.*has no program claude-agent-wrapper/);
    await other.kill();
  });
});

describe("agents with a key", { ...suite, skip: noMachine || (long ? false : "it runs with SHOAL_TEST_LONG") }, () => {
  const seen = [];
  const internet = new Internet(HOST);
  internet.answer = modelHandler((what) => seen.push(what));
  const prompts = () => seen.filter((what) => what.path === "/v1/messages" && (what.text || what.result !== undefined));
  let store, box;

  before(async () => {
    await internet.start();
    store = await SecretStore.create({ ...at, name: `agent-${randomUUID().slice(0, 8)}`, egressAllowlist: [HOST] });
    await SecretStore.setSecret(store.id, "ANTHROPIC_API_KEY", KEY, { ...at, allowedHosts: [HOST] });
    box = await createBox({ template: "base", memoryMB: 2048, cpuCount: 2, secretStore: store.name });
  });
  after(async () => {
    await cleanUp();
    if (store) await SecretStore.delete(store.id, at);
    await internet.stop();
  });

  test("a prompt is worked on with the key that the guest never has; then interrupted, and killed", async () => {
    const heard = new Heard();
    const session = await box.agent.start({
      prompt: "run echo $((6*7)) >made && cat made; printenv ANTHROPIC_API_KEY >key", systemPrompt: "Be a test.", model: "claude-test",
      allowedTools: ["Bash"], maxTurns: 7, cwd: "/workspace", ...heard.callbacks,
    });
    await heard.until("turn_complete");
    assert.deepEqual(heard.types().slice(0, 3), ["ready", "configured", "system"], heard.log);
    assert.equal(heard.said().at(-1), "it said 42");
    assert.equal(heard.all("result")[0].subtype, "success");
    assert.equal(await box.files.read("/workspace/made"), "42\n");
    assert.match(await box.files.read("/workspace/key"), /^osb_sealed_[0-9a-f]{32}\n$/);
    assert.ok(prompts().length >= 2);
    for (const { key, model, system } of prompts()) {
      assert.equal(key, KEY);
      assert.equal(model, "claude-test");
      assert.match(system, /Be a test\./);
    }
    assert.ok(!JSON.stringify(heard.events).includes(KEY));
    const { claude_session_id: conversation } = heard.all("turn_complete")[0];
    assert.match(conversation, /^[0-9a-f-]{36}$/);

    // a turn that does not end by itself is ended, and the conversation is still there
    const asked = prompts().length;
    session.sendPrompt("hang");
    await eventually("the model is asked", () => prompts().length > asked, 240_000);
    assert.ok(prompts().at(-1).turns >= 2, "the model was told what was before");
    session.interrupt();
    await heard.until("interrupted");
    await heard.until("turn_complete", 2);
    assert.equal(heard.all("turn_complete")[1].claude_session_id, conversation);

    if (long) { // a session is a process like others: it is there after a hibernation
      await box.hibernate();
      await box.wake();
      assert.equal((await call("POST", `/sandboxes/${box.sandboxId}/agent/${session.sessionId}/prompt`, { body: { text: "say awake" } })).status, 204);
      await eventually("the model is asked", () => prompts().at(-1).text === "say awake", 240_000);
    }

    // whoever attaches later hears all of it
    const later = new Heard();
    const attached = await box.agent.attach(session.sessionId, later.callbacks);
    await later.until("turn_complete", 2);
    assert.deepEqual(later.types().slice(0, heard.events.length), heard.types());
    attached.close();

    assert.deepEqual((await box.agent.list()).map(({ sessionID, running }) => [sessionID, running]), [[session.sessionId, true]]);
    await session.kill();
    if (!long) assert.equal(await session.done, 137); // the hibernation ended that connection
    await eventually("it has ended", async () => !(await box.agent.list())[0].running, 60_000);
    assert.equal((await sh(box, `grep -rlF ${KEY} /home/sandbox /tmp /proc/[0-9]*/environ 2>/dev/null || true`)).trim(), "");
  });
});
