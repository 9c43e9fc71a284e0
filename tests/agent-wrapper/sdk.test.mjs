// Agents through the unmodified OpenComputer SDK, without a guest: the API server with the real agent program
// (tests/client/live_server.c), the wrapper and the program of the Claude Agent SDK, a model endpoint on
// loopback. tests/e2e/agent.test.mjs has the same with a guest and the key in a store.
// Needs `npm ci` here and in tests/e2e, and a build.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import http from "node:http";
import { createInterface } from "node:readline";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { after, before, describe, it } from "node:test";
import { modelHandler } from "../e2e/lib/model.mjs";
import { install, SDK } from "./install.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const shoald = process.env.SHOALD ?? join(here, "../../build/asan/node/shoald");
const program = join(dirname(shoald), "../tests/client/live_server");
const e2e = join(here, "../e2e/node_modules");
const skip = [[SDK, "npm ci in tests/agent-wrapper"], [e2e, "npm ci in tests/e2e"], [program, "it is not built"]]
  .filter(([path]) => !existsSync(path)).map(([path, why]) => `${path} is not there: ${why}`)[0] ?? false;
const KEY = "sk-ant-of-the-test";

/** What a session's callbacks heard. */
class Heard {
  events = [];
  log = "";
  waiting = [];
  callbacks = {
    onEvent: (event) => { this.events.push(event); this.waiting.splice(0).forEach((look) => look()); },
    onError: (text) => { this.log += text; },
  };

  all = (type) => this.events.filter((event) => event.type === type);

  async until(type, count = 1) {
    while (this.all(type).length < count) await new Promise((done) => this.waiting.push(done));
  }
}

describe("agents through the SDK", { skip, timeout: 300_000 }, () => {
  let server, model, box;
  const seen = [];
  const prompts = () => seen.filter((what) => what.text || what.result !== undefined);

  before(async () => {
    const { WebSocket } = createRequire(join(e2e, "x.js"))("ws");
    globalThis.WebSocket ??= WebSocket;
    const { Sandbox } = await import(pathToFileURL(join(e2e, "@opencomputer/sdk/dist/index.js")));
    const main = install();
    model = http.createServer(modelHandler((what) => seen.push(what)));
    await new Promise((done) => model.listen(0, "127.0.0.1", done));
    server = spawn(program, { stdio: ["pipe", "pipe", "inherit"] });
    const lines = createInterface({ input: server.stdout });
    const { url, key, id } = await new Promise((done) => lines.on("line", (line) => {
      if (line.startsWith("{")) done(JSON.parse(line));
    }));
    box = await Sandbox.connect(id, { apiUrl: url, apiKey: key });
    await box.files.write("claude-agent-wrapper", `#!/bin/sh
[ -e no-key ] || export ANTHROPIC_API_KEY=${KEY}
export ANTHROPIC_BASE_URL=http://127.0.0.1:${model.address().port}
exec '${process.execPath}' '${main}'
`);
    await box.exec.run("chmod 755 claude-agent-wrapper");
  });
  after(async () => {
    server?.stdin.end();
    if (server) await new Promise((done) => server.on("exit", done));
    model?.closeAllConnections();
    model?.close();
  });

  it("without a key: a session, an error, an end", async () => {
    await box.exec.run("touch no-key");
    const heard = new Heard();
    const session = await box.agent.start({ prompt: "say x", ...heard.callbacks });
    assert.equal(await session.done, 1);
    await box.exec.run("rm no-key");
    assert.deepEqual(heard.events.map((event) => event.type), ["error"]);
    assert.match(heard.events[0].message, /ANTHROPIC_API_KEY is not set/);
    assert.equal((await box.agent.list())[0].running, false);
  });

  it("start, prompts, configure, interrupt, attach, kill", async () => {
    const heard = new Heard();
    const session = await box.agent.start({
      prompt: "run echo $((6*7))", model: "claude-test", systemPrompt: "Be a test.", allowedTools: ["Bash"], maxTurns: 7, ...heard.callbacks,
    });
    await heard.until("turn_complete");
    assert.deepEqual(heard.events.slice(0, 3).map((event) => event.type), ["ready", "configured", "system"], heard.log);
    assert.equal(heard.all("assistant").at(-1).message.content[0].text, "it said 42");
    assert.ok(prompts().every((what) => what.key === KEY && what.model === "claude-test" && /Be a test\./.test(what.system)));
    session.configure({ model: "claude-other" });
    session.sendPrompt("say on");
    await heard.until("turn_complete", 2);
    assert.equal(heard.all("configured").length, 2);
    assert.equal(prompts().at(-1).model, "claude-other");
    assert.ok(prompts().at(-1).turns >= 2);
    const [first, second] = heard.all("turn_complete");
    assert.equal(first.claude_session_id, second.claude_session_id);

    session.sendPrompt("hang");
    await heard.until("system", 3);
    session.interrupt();
    await heard.until("turn_complete", 3);
    assert.equal(heard.all("interrupted").length, 1);

    const later = new Heard();
    const attached = await box.agent.attach(session.sessionId, later.callbacks);
    await later.until("turn_complete", 3);
    assert.deepEqual(later.events, heard.events);
    attached.close();
    await session.kill();
    assert.equal(await session.done, 137);
    await session.kill(); // again is fine
  });
});
