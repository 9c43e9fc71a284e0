// The metadata service of shoal-egress, asked by guests in network namespaces under the real rules: a has an
// allowlist and secrets, b secrets alone, c neither.
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { spawn } from "node:child_process";
import { GUESTS, inNamespace, inside, Net, TOKEN, VALUE } from "./net.mjs";

inNamespace("metadata service", import.meta.url);

const HOST = "http://169.254.169.254";
const net = new Net();

function tell() {
  net.policy("a", "--allow", "api.example.com", "--secret", TOKEN, VALUE, "--to", "api.example.com");
  net.policy("b", "--secret", TOKEN, VALUE, "--to", "api.example.com");
  net.policy("c");
}

const get = (guest, path, ...args) => net.curl(guest, ...args, `${HOST}${path}`).stdout;
const status = (guest, path, ...args) => get(guest, path, "-o", "/dev/null", "-w", "%{http_code}", ...args);

/** What guest @name gets back when it sends @text as it is, with a shell's /dev/tcp. */
const raw = (name, text, then = "") =>
  net.run(name, "bash", ["-c", `exec 3<>/dev/tcp/169.254.169.254/80; printf '%b' "$0" >&3; ${then} cat <&3`, text]).stdout;

describe("metadata", { skip: !inside, timeout: 120_000 }, () => {
  before(() => net.start());
  after(() => net.stop());

  it("says to come again before anybody was told, and 404 to strangers afterwards", () => {
    assert.match(get("c", "/v1/status", "-i"), /^HTTP\/1.1 503 [^]*not said yet who you are/);
    net.ctl("mark");
    tell();
    net.ctl("drop", GUESTS.b);
    net.ctl("sweep");
    assert.match(get("b", "/v1/status", "-i"), /^HTTP\/1.1 404 [^]*text\/plain[^]*no sandbox's/);
    tell();
  });

  it("tells every guest of itself, whatever else it may reach", () => {
    for (const name of Object.keys(GUESTS)) {
      const { sandboxId, uptime } = JSON.parse(get(name, "/v1/status"));
      assert.equal(sandboxId, `sb-0000000${name}`);
      assert.ok(Number.isInteger(uptime) && uptime > 0);
      assert.deepEqual(JSON.parse(get(name, "/v1/metadata")), { region: "eu-1", template: "minimal" });
      assert.ok(JSON.parse(get(name, "/")).endpoints.includes("/v1/limits"));
      assert.equal(status(name, "/latest/meta-data/"), "404");
      assert.equal(status(name, "/v1/status", "-X", "POST", "-d", "{}"), "405");
    }
    // also under a name that leads there, and with a body that nobody wants
    assert.equal(net.curl("c", "--resolve", "meta.example.com:80:169.254.169.254", "http://meta.example.com/v1/metadata").status, 0);
    const posted = net.run("c", "sh", ["-c", `head -c 60000 /dev/zero | curl -sS -o /dev/null -w '%{http_code}' -T - ${HOST}/v1/status`]);
    assert.equal(posted.stdout, "405");
  });

  it("is nothing else of that network, and no other port", () => {
    const ways = ["http://169.254.169.253/", "http://169.254.169.254:8080/", "https://169.254.169.254/", "http://169.254.1.1/",
      `http://10.201.0.1:${net.metadataPort}/`, `http://192.0.2.1:${net.metadataPort}/`];
    for (const name of Object.keys(GUESTS)) {
      for (const way of ways) assert.notEqual(net.curl(name, "-kf", "--max-time", "3", way).status, 0, `${name}: ${way}`);
    }
    // nor does the gateway lead there as a proxy, and nobody from outside asks it
    assert.match(net.curl("b", "-x", "http://10.201.0.5:3128", `${HOST}/v1/status`).stdout, /private/);
    assert.notEqual(net.run("net", "curl", ["-sS", "--max-time", "3", `http://192.0.2.1:${net.metadataPort}/`]).status, 0);
    assert.equal(net.strays().length, 0);
  });

  it("asks the daemon for what changes, and says when nobody answers", async () => {
    assert.match(get("c", "/v1/limits", "-i"), /^HTTP\/1.1 503 [^]*Retry-After/);
    const daemon = net.listen("1234", "1000", "3", "44", "55");
    await daemon.ready;
    // those that ask meanwhile get the same answer
    const both = [0, 1].map(() => new Promise((done) => {
      const child = spawn("ip", ["netns", "exec", "c", "curl", "-sS", "--max-time", "30", `${HOST}/v1/limits`]);
      let text = "";
      child.stdout.on("data", (data) => { text += data; });
      child.on("exit", () => done(text));
    }));
    const one = JSON.parse(await Promise.any(both));
    assert.deepEqual(one, { cpuPercent: 123.4, memUsage: 1000, memLimit: 2 ** 30, pids: 3, netInput: 44, netOutput: 55 });
    await Promise.all([...both, daemon.ended]);
    const silent = net.listen();
    await silent.ready;
    assert.equal(status("a", "/v1/limits"), "503");
    await silent.ended;
  });

  it("is another one's as soon as the address is", () => {
    net.ctl("guest", GUESTS.c, "sb-00000fff");
    assert.equal(JSON.parse(get("c", "/v1/status")).sandboxId, "sb-00000fff");
    tell();
  });

  it("takes heads in pieces, and answers for nonsense", () => {
    assert.match(raw("c", "GET /v1/meta", "sleep 0.3; printf 'data HTTP/1.1\\r\\n\\r\\n' >&3;"), /"eu-1"/);
    assert.match(raw("c", "\\x16\\x03\\x01\\x00\\n\\n"), /^HTTP\/1.1 400 /);
    assert.match(raw("c", `GET / HTTP/1.1\\r\\nA: ${"x".repeat(5000)}`), /^HTTP\/1.1 431 /);
  });

  it("lets a guest that holds its connections disturb nobody else", () => {
    const more = net.ctl("stats").over_limit;
    const held = net.run("a", "bash", ["-c", "for i in $(seq 40); do exec {fd}<>/dev/tcp/169.254.169.254/80; done; " +
      `ip netns exec c true 2>/dev/null; curl -sS --max-time 2 ${HOST}/v1/status`]);
    assert.equal(held.stdout, "");
    assert.ok(net.ctl("stats").over_limit > more);
    assert.equal(JSON.parse(get("c", "/v1/status")).sandboxId, "sb-0000000c");
    assert.equal(JSON.parse(get("a", "/v1/status")).sandboxId, "sb-0000000a");
  });
});
