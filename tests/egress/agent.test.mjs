// An agent of the template in a guest that has a sealed key alone: the wrapper and the program of the Claude
// Agent SDK behind the real gateway, a model endpoint where api.anthropic.com would be. tests/e2e/agent.test.mjs
// has the same in a real guest. Needs `npm ci` in tests/agent-wrapper.
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, describe, it } from "node:test";
import { install, SDK } from "../agent-wrapper/install.mjs";
import { inNamespace, inside, Net, TOKEN, VALUE } from "./net.mjs";

const noSdk = existsSync(SDK) ? false : "the SDK is not installed: npm ci in tests/agent-wrapper";
if (!noSdk) inNamespace("agent behind the gateway", import.meta.url);

const HOST = "api.anthropic.com";
const PROXY = "http://169.254.169.253:3128";
const net = new Net();

/** What node/sandbox/setup.c gives to a guest with stores. */
function environment(dir) {
  const pem = join(dir, "guest.pem");
  return { HTTP_PROXY: PROXY, HTTPS_PROXY: PROXY, http_proxy: PROXY, https_proxy: PROXY,
    NO_PROXY: "localhost,127.0.0.1,::1,169.254.169.254", no_proxy: "localhost,127.0.0.1,::1,169.254.169.254",
    NODE_EXTRA_CA_CERTS: pem, REQUESTS_CA_BUNDLE: pem, SSL_CERT_FILE: pem, CURL_CA_BUNDLE: pem, GIT_SSL_CAINFO: pem };
}

describe("agent", { skip: !inside || noSdk, timeout: 300_000 }, () => {
  const prompts = () => net.seen.map((what) => what.model).filter((what) => what?.path === "/v1/messages" && (what.text || what.result !== undefined));
  let program, child;

  before(async () => {
    program = install();
    await net.start();
    net.policy("a", "--allow", HOST, "--secret", TOKEN, VALUE, "--to", HOST);
  });
  after(async () => {
    child?.kill("SIGKILL");
    await net.stop();
  });

  it("works on a prompt with the key that it never has, and hears the model as it speaks", async () => {
    const home = join(net.dir, "home");
    mkdirSync(home);
    child = net.spawn("a", process.execPath, [program], { cwd: home, stdio: "pipe",
      env: { PATH: process.env.PATH, HOME: home, ANTHROPIC_API_KEY: TOKEN, ...environment(net.dir) } });
    const events = [];
    let log = "", look = () => {};
    child.stderr.on("data", (data) => { log += data; });
    child.on("exit", () => look());
    createInterface({ input: child.stdout }).on("line", (line) => { events.push(JSON.parse(line)); look(); });
    const until = async (type, count) => {
      while (events.filter((event) => event.type === type).length < count) {
        assert.equal(child.exitCode, null, `${JSON.stringify(events).slice(-2000)} ${log.slice(-2000)} ${net.log.slice(-5).join("\n")}`);
        await new Promise((done) => { look = done; });
      }
    };
    const send = (message) => child.stdin.write(`${JSON.stringify(message)}\n`);

    send({ type: "configure", model: "claude-test", allowedTools: ["Bash"] });
    send({ type: "prompt", text: "run printenv ANTHROPIC_API_KEY >key; echo $((6*7))" });
    await until("turn_complete", 1);
    const texts = events.filter((event) => event.type === "assistant").flatMap((event) => event.message.content)
      .filter((block) => block.type === "text").map((block) => block.text);
    assert.equal(texts.at(-1), "it said 42");
    assert.equal(readFileSync(join(home, "key"), "utf8"), `${TOKEN}\n`);
    assert.ok(prompts().length >= 2);
    for (const what of prompts()) assert.equal(what.key, VALUE);
    assert.ok(!JSON.stringify(events).includes(VALUE));
    // a turn that hangs in the middle of the answer is interrupted
    const asked = prompts().length;
    send({ type: "prompt", text: "hang" });
    await until("system", 2);
    while (prompts().length === asked) await new Promise((done) => setImmediate(done));
    send({ type: "interrupt" });
    await until("turn_complete", 2);
    assert.equal(events.filter((event) => event.type === "interrupted").length, 1);
    child.stdin.end();
    if (child.exitCode === null) await new Promise((done) => child.on("exit", done));
    assert.ok(net.ctl("stats").replaced >= 2);
  });
});
