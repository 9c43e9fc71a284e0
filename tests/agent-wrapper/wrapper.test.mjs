// The wrapper of templates/base as a session would run it, with the SDK of the template and its
// program, against a model endpoint on loopback. Needs `npm ci` here.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, describe, it } from "node:test";
import { modelHandler } from "../e2e/lib/model.mjs";
import { install, RECIPE, SDK } from "./install.mjs";

const skip = existsSync(SDK) ? false : "the SDK is not installed: npm ci in tests/agent-wrapper";
const KEY = "sk-ant-of-the-test";

class Wrapper {
  events = [];
  errors = "";
  waiting = [];

  constructor(program, home, env) {
    this.child = spawn(process.execPath, [program],
      { cwd: home, env: { PATH: process.env.PATH, HOME: home, ...env }, stdio: "pipe" });
    this.exit = new Promise((resolve) => this.child.on("close", resolve));
    this.child.stderr.on("data", (data) => { this.errors += data; });
    this.child.stdin.on("error", () => {}); // one that ends at once
    createInterface({ input: this.child.stdout }).on("line", (line) => {
      this.events.push(JSON.parse(line));
      this.waiting.forEach((look) => look());
    });
  }

  send(...messages) {
    this.child.stdin.write(messages.map((message) => `${JSON.stringify(message)}\n`).join(""));
  }

  /** All events up to the next one of @type, which are then gone from the list. */
  async until(type) {
    for (;;) {
      const at = this.events.findIndex((event) => event.type === type);
      if (at >= 0) return this.events.splice(0, at + 1);
      const ended = this.exit.then((code) => {
        if (!this.events.some((event) => event.type === type)) {
          throw new Error(`it ended with ${code} before "${type}": ${JSON.stringify(this.events)} ${this.errors}`);
        }
      });
      await Promise.race([new Promise((resolve) => this.waiting.push(resolve)), ended]);
    }
  }

  async ask(text, more) {
    this.send({ type: "prompt", text, ...more });
    return this.until("turn_complete");
  }

  end() {
    this.child.stdin.end();
    return this.exit;
  }
}

const said = (events) => events.filter((event) => event.type === "assistant")
  .flatMap((event) => event.message.content.filter((block) => block.type === "text").map((block) => block.text));
const of = (events, type) => events.filter((event) => event.type === type);

describe("agent wrapper", { skip, timeout: 300_000 }, () => {
  let server, base, home, program;
  const seen = [];
  const running = [];
  const start = (env = { ANTHROPIC_API_KEY: KEY }) => {
    const wrapper = new Wrapper(program, home, { ANTHROPIC_BASE_URL: base, ...env });
    running.push(wrapper);
    return wrapper;
  };
  const prompts = () => seen.filter((what) => what.text || what.result !== undefined);

  before(async () => {
    program = install();
    home = mkdtempSync(join(tmpdir(), "shoal-wrapper-"));
    server = http.createServer(modelHandler((what) => seen.push(what)));
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    base = `http://127.0.0.1:${server.address().port}`;
  });
  after(() => {
    running.forEach((wrapper) => wrapper.child.kill("SIGKILL"));
    server?.closeAllConnections();
    server?.close();
    if (home) rmSync(home, { recursive: true, force: true });
  });

  it("is tested with the SDK that the template has", () => {
    const { version } = JSON.parse(readFileSync(join(SDK, "package.json"), "utf8"));
    assert.match(readFileSync(join(RECIPE, "npm"), "utf8"), new RegExp(`^@anthropic-ai/claude-agent-sdk@${version}$`, "m"));
  });

  it("without a key it says what to do, and ends", async () => {
    const wrapper = start({});
    wrapper.send({ type: "prompt", text: "say x" });
    assert.equal(await wrapper.exit, 1);
    assert.deepEqual(wrapper.events.map((event) => event.type), ["error"]);
    assert.match(wrapper.events[0].message, /ANTHROPIC_API_KEY is not set.*secret store/);
  });

  it("a prompt runs a tool and comes to its end; the next one goes on with the conversation", async () => {
    const wrapper = start();
    assert.deepEqual((await wrapper.until("ready")).map((event) => event.type), ["ready"]);
    seen.length = 0;
    const first = await wrapper.ask("run echo $((6*7)) >made && cat made");
    assert.deepEqual(said(first), ["it said 42"]);
    assert.equal(readFileSync(join(home, "made"), "utf8"), "42\n");
    assert.equal(of(first, "system")[0].permissionMode, "bypassPermissions");
    assert.equal(of(first, "system")[0].cwd, home);
    assert.equal(of(first, "result")[0].subtype, "success");
    const { claude_session_id: id } = first.at(-1);
    assert.equal(of(first, "result")[0].session_id, id);
    assert.ok(prompts().every((what) => what.key === KEY && what.model === "claude-sonnet-4-20250514"));

    const second = await wrapper.ask("say on");
    assert.deepEqual(said(second), ["on"]);
    assert.equal(second.at(-1).claude_session_id, id);
    assert.ok(prompts().at(-1).turns >= 2, "the model was told what was before");

    // another process goes on with it, told by its configuration or by the prompt
    const other = start();
    other.send({ type: "configure", resume: id });
    await other.until("configured");
    assert.equal((await other.ask("say further")).at(-1).claude_session_id, id);
    assert.ok(prompts().at(-1).turns >= 3);
    assert.equal(await other.end(), 0);
    assert.equal(await wrapper.end(), 0);
  });

  it("does as configured", async () => {
    const wrapper = start();
    mkdirSync(join(home, "there"), { recursive: true });
    wrapper.send({ type: "configure", model: "claude-other", systemPrompt: "Be a test.", allowedTools: ["Bash(echo:*)", "Read"], permissionMode: "dontAsk", maxTurns: 1, cwd: join(home, "there") });
    await wrapper.until("configured");
    seen.length = 0;
    const events = await wrapper.ask("run pwd");
    const [init] = of(events, "system");
    assert.deepEqual(init.tools.toSorted(), ["Bash", "Read"]);
    assert.equal(init.cwd, join(home, "there"));
    assert.equal(init.permissionMode, "dontAsk");
    assert.ok(prompts()[0].tools.includes("Bash") && !prompts()[0].tools.includes("Write"));
    assert.equal(prompts()[0].model, "claude-other");
    assert.match(prompts()[0].system, /Be a test\./);
    assert.equal(of(events, "result")[0].subtype, "error_max_turns");
    // what is configured later changes that alone
    wrapper.send({ type: "configure", maxTurns: 5 });
    await wrapper.until("configured");
    assert.deepEqual(said(await wrapper.ask("run echo allowed")), ["it said allowed"]);
    assert.doesNotMatch(said(await wrapper.ask("run touch forbidden"))[0], /^it said $/);
    assert.ok(!existsSync(join(home, "there/forbidden")));
    assert.equal(await wrapper.end(), 0);
  });

  it("is interrupted in the middle of a turn, and goes on with the next prompt", async () => {
    const wrapper = start();
    wrapper.send({ type: "interrupt" }); // nothing to stop
    await wrapper.until("interrupted");
    wrapper.send({ type: "prompt", text: "hang" }, { type: "prompt", text: "say after" });
    await wrapper.until("system"); // the model is asked
    wrapper.send({ type: "interrupt" });
    assert.ok((await wrapper.until("turn_complete")).some((event) => event.type === "interrupted"));
    assert.deepEqual(said(await wrapper.until("turn_complete")), ["after"]);
    assert.equal(await wrapper.end(), 0);
  });

  it("has tools of MCP servers", async () => {
    const wrapper = start();
    const program = join(home, "server.mjs");
    writeFileSync(program, `
      import { createInterface } from "node:readline";
      const tools = [{ name: "measure", description: process.env.WHAT, inputSchema: { type: "object" } }];
      createInterface({ input: process.stdin }).on("line", (line) => {
        const { id, method, params } = JSON.parse(line);
        const result = method === "initialize"
          ? { protocolVersion: params.protocolVersion, capabilities: { tools: {} }, serverInfo: { name: "x", version: "1" } }
          : method === "tools/list" ? { tools } : {};
        if (id !== undefined) process.stdout.write(JSON.stringify({ jsonrpc: "2.0", id, result }) + "\\n");
      });`);
    wrapper.send({ type: "configure", allowedTools: ["mcp__meter__measure"], mcpServers: { meter: { command: process.execPath, args: [program], env: { WHAT: "length" } } } });
    await wrapper.until("configured");
    const [init] = of(await wrapper.ask("say x"), "system");
    assert.deepEqual(init.mcp_servers.map(({ name, status }) => [name, status]), [["meter", "connected"]]);
    assert.deepEqual(init.tools, ["mcp__meter__measure"]);
    assert.equal(await wrapper.end(), 0);
  });

  it("a conversation that is not there begins anew, and says so", async () => {
    const wrapper = start();
    const gone = "11111111-2222-4333-8444-555555555555";
    const events = await wrapper.ask("say new", { resume: gone });
    assert.match(of(events, "error")[0].message, new RegExp(`conversation ${gone} cannot be resumed, a new one begins`));
    assert.deepEqual(said(events), ["new"]);
    assert.notEqual(events.at(-1).claude_session_id, gone);
    assert.equal(await wrapper.end(), 0);
  });

  it("says what goes wrong, and stays", async () => {
    const wrapper = start();
    await wrapper.until("ready");
    const wrong = async (message, pattern) => {
      wrapper.send(message);
      assert.match((await wrapper.until("error")).at(-1).message, pattern);
    };
    await wrong("text", /one JSON object/);
    await wrong(null, /one JSON object/);
    await wrong({ type: "nothing" }, /unknown input type 'nothing'/);
    await wrong({ type: "prompt" }, /needs a text/);
    await wrong({ type: "configure", permissionMode: "root" }, /permissionMode must be one of/);
    await wrong({ type: "configure", maxTurns: 1.5 }, /maxTurns must be/);
    await wrong({ type: "configure", allowedTools: "Bash" }, /allowedTools must be/);
    await wrong({ type: "configure", mcpServers: { a: 1 } }, /mcpServers must be/);
    const refused = await wrapper.ask("refuse");
    assert.match(of(refused, "error")[0].message, /the model refuses/);
    assert.equal(of(refused, "result")[0].is_error, true);
    wrapper.send({ type: "configure", cwd: "/no/such" });
    await wrapper.until("configured");
    assert.match(of(await wrapper.ask("say x"), "error")[0].message, /cwd is no folder: \/no\/such/);
    wrapper.send({ type: "configure", cwd: "no\0name", constructor: 1 });
    await wrapper.until("configured");
    assert.match(of(await wrapper.ask("say x"), "error")[0].message, /null bytes/);
    wrapper.send({ type: "configure", cwd: home });
    assert.deepEqual(said(await wrapper.ask("say still here")), ["still here"]);
    assert.equal(await wrapper.end(), 0);
  });
});
