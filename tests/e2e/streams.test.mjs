// Sessions, shells and terminals with the SDK, over WebSockets (contract tests 36 to 42, 44, 51 to 54):
// against the node of SHOAL_URL, through every node of a cluster (SHOAL_NODES), across a
// hibernation and a restart of the daemon.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import {
  apiKey, call, cleanUp, createBox, eventually, long, origin, Sandbox, suite, takeTurn,
} from "./lib/shoal.mjs";
import { killDaemon, noMachine, startDaemon } from "./lib/node.mjs";

// Node 20 has no WebSocket of its own, which the SDK expects.
globalThis.WebSocket ??= (await import("ws")).WebSocket;

await takeTurn();

const cli = process.env.SHOAL_CLI ?? fileURLToPath(new URL("../../build/release/client/shoal", import.meta.url));
const noCli = existsSync(cli) ? false : "SHOAL_CLI names no program and none is built";

/** The program `shoal` on a terminal of script(1), with those keys, typed when it has shown `when`: exit
 *  code and what it showed. */
function shoalOnTerminal(args, keys, when = "") {
  return new Promise((resolve) => {
    const child = execFile("script", ["-qefc", [cli, ...args].join(" "), "/dev/null"], {
      env: { ...process.env, SHOAL_URL: origin, SHOAL_API_KEY: apiKey },
      timeout: 120_000,
    }, (error, stdout) => resolve({ code: error ? error.code : 0, out: stdout }));
    let shown = "";
    const type = () => keys && shown.includes(when) && child.stdin.write(keys) | (keys = "");
    child.stdout.on("data", (text) => type((shown += text)));
    type();
  });
}

const count = Number(process.env.SHOAL_NODES ?? 1);
const port = Number(new URL(origin || "http://localhost:8080").port);
const origins = Array.from({ length: count }, (_, i) => `http://localhost:${port + i}`);

/** What a session printed: grows, and can be waited for. */
function collector() {
  const text = { out: "", err: "", ends: 0 };
  const decoder = { out: new TextDecoder(), err: new TextDecoder() };
  return {
    text,
    options: {
      onStdout: (bytes) => (text.out += decoder.out.decode(bytes, { stream: true })),
      onStderr: (bytes) => (text.err += decoder.err.decode(bytes, { stream: true })),
      onScrollbackEnd: () => text.ends++,
    },
    saw: (part) => eventually(() => `"${part}" in ${JSON.stringify(text.out.slice(-300))}`, () => text.out.includes(part), 60_000, 50),
  };
}

/** A client that comes back to a session, and has seen the marker: on a busy machine the SDK misses messages
 *  that come right after the handshake, and comes once more. */
async function comeBack(box, session) {
  let seen, client;
  for (let tries = 0; tries < 5 && seen?.text.ends !== 1; tries++) {
    client?.close();
    seen = collector();
    client = await box.exec.attach(session.sessionId, seen.options);
    await eventually("the marker", () => seen.text.ends === 1, 20_000, 50).catch(() => {});
  }
  assert.equal(seen.text.ends, 1);
  return [seen, client];
}

/** A terminal of the SDK whose output can be waited for. */
async function openTerminal(box, options = {}) {
  const text = { out: "" };
  const decoder = new TextDecoder();
  const pty = await box.pty.create({ ...options, onOutput: (bytes) => (text.out += decoder.decode(bytes, { stream: true })) });
  const saw = (part) => eventually(() => `"${part}" in ${JSON.stringify(text.out.slice(-300))}`, () => text.out.includes(part), 60_000, 50);
  // The SDK returns before the socket is open.
  await eventually("the prompt", () => text.out.length > 0, 60_000, 50);
  return { ...pty, text, saw };
}

describe("streams", suite, () => {
  let box;
  before(async () => {
    box = await createBox();
  });
  after(cleanUp);

  test("start: output as it comes, both streams, exit code", async () => {
    const seen = collector();
    const session = await box.exec.start("echo one; echo problem >&2; read x; echo got $x; exit 7", seen.options);
    await seen.saw("one\n");
    session.sendStdin("this\n");
    assert.equal(await session.done, 7);
    assert.equal(seen.text.out, "one\ngot this\n");
    assert.equal(seen.text.err, "problem\n");
    assert.equal(seen.text.ends, 1);
  });

  test("attach: what was before, the marker once, then what comes; the client ends nothing", async () => {
    const first = collector();
    const session = await box.exec.start("echo early; read x; echo late; read y", first.options);
    await first.saw("early");
    session.close();
    const [again, other] = await comeBack(box, session);
    assert.equal(again.text.out, "early\n");
    other.sendStdin("\n");
    await again.saw("late");
    const listed = (await box.exec.list()).find((s) => s.sessionID === session.sessionId);
    assert.equal(listed.running, true);
    await other.kill();
    assert.equal(await other.done, 137);
  });

  test("several clients see the same, input of all is one", async () => {
    const seen = [collector(), collector(), collector()];
    const session = await box.exec.start("cat", seen[0].options);
    const others = [await box.exec.attach(session.sessionId, seen[1].options), await box.exec.attach(session.sessionId, seen[2].options)];
    session.sendStdin("a\n");
    others[0].sendStdin("b\n");
    for (const one of seen) {
      await one.saw("a\n");
      await one.saw("b\n");
    }
    await session.kill(15);
    assert.deepEqual(await Promise.all([session.done, others[0].done, others[1].done]), [143, 143, 143]);
  });

  test("shell: state stays, exit codes, streams apart", async (t) => {
    if ((await box.exec.run("command -v bash")).exitCode !== 0) return t.skip("the template has no bash");
    const shell = await box.exec.shell();
    assert.equal((await shell.run("cd /usr; X=5; echo hi")).stdout, "hi\n");
    const result = await shell.run("pwd; echo $X >&2; (exit 3)");
    assert.equal(result.stdout, "/usr\n");
    assert.equal(result.stderr, "5\n");
    assert.equal(result.exitCode, 3);
    await shell.close();
  });

  test("megabytes arrive complete and in order", async () => {
    const seen = collector();
    // Not before the SDK listens: on a busy machine it misses messages that come with the handshake.
    const session = await box.exec.start("read go; seq 1 750000", seen.options);
    session.sendStdin("\n");
    assert.equal(await session.done, 0);
    assert.equal(seen.text.err, "");
    assert.equal(seen.text.out.length, 5138895);
    const lines = seen.text.out.split("\n");
    assert.ok(lines.slice(0, -1).every((line, i) => Number(line) === i + 1));
  });

  test("messages of a session: all binary, at most 64 KiB, one marker, the exit code last, also when it has ended before", async () => {
    const session = await box.exec.start("seq 1 100000; echo problem >&2; exit 5");
    assert.equal(await session.done, 5);
    const socket = new WebSocket(`${origin.replace("http", "ws")}/api/sandboxes/${box.sandboxId}/exec/${session.sessionId}?api_key=${apiKey}`);
    socket.binaryType = "arraybuffer";
    const messages = [];
    socket.onmessage = (event) => messages.push(event.data);
    assert.equal(await new Promise((resolve) => (socket.onclose = (event) => resolve(event.code))), 1000);
    assert.ok(messages.every((data) => data instanceof ArrayBuffer && data.byteLength <= 65537));
    const kinds = messages.map((data) => new Uint8Array(data)[0]);
    assert.equal(kinds.filter((kind) => kind === 4).length, 1);
    assert.deepEqual(kinds.slice(-2), [4, 3]);
    assert.deepEqual([...new Uint8Array(messages.at(-1))], [3, 0, 0, 0, 5]);
    assert.equal(messages.filter((_, i) => kinds[i] === 1).reduce((sum, data) => sum + data.byteLength - 1, 0), 588895);
  });

  test("maxRunAfterDisconnect ends what nobody watches, 0 nothing", async () => {
    const [seen, free] = [collector(), collector()];
    const forever = await box.exec.start("echo up; sleep 600", { ...free.options, maxRunAfterDisconnect: 0 });
    await free.saw("up");
    forever.close();
    const session = await box.exec.start("echo up; sleep 600", { ...seen.options, maxRunAfterDisconnect: 1 });
    await seen.saw("up");
    session.close();
    const running = async (id) => (await box.exec.list()).find((one) => one.sessionID === id)?.running;
    await eventually("its end", async () => (await running(session.sessionId)) === false);
    assert.equal(await running(forever.sessionId), true, "it was left before the other one");
    assert.equal((await call("POST", `/sandboxes/${box.sandboxId}/exec/${forever.sessionId}/kill`, { body: {} })).status, 200);
  });

  test("a terminal: size, resize, Ctrl-C, what was there when one comes back", async () => {
    const pty = await openTerminal(box, { cols: 100, rows: 30 });
    pty.send("stty size; echo $TERM\n");
    await pty.saw("30 100");
    await pty.saw("xterm-256color");
    pty.send("trap 'stty size; echo re''sized' WINCH; echo trap''ped\n");
    await pty.saw("trapped");
    const reply = await call("POST", `/sandboxes/${box.sandboxId}/pty/${pty.sessionId}/resize`, { body: { cols: 81, rows: 25 } });
    assert.equal(reply.status, 204, reply.text);
    pty.send(new TextEncoder().encode("\n"));
    await pty.saw("25 81");
    await pty.saw("resized");
    // Not the shell's own echo: between that and its fork a Ctrl-C is bash's, and it waits on for sleep.
    pty.send("sh -c 'echo sleep\"\"ing; exec sleep 600'\n");
    await pty.saw("sleeping");
    pty.send("\u0003");
    pty.send("echo still-$((1+1))\n");
    await pty.saw("still-2");
    pty.close();
    const again = new WebSocket(`${origin.replace("http", "ws")}/api/sandboxes/${box.sandboxId}/pty/${pty.sessionId}?api_key=${apiKey}`);
    again.binaryType = "arraybuffer";
    let replay = "";
    again.onmessage = (event) => (replay += new TextDecoder().decode(event.data));
    await eventually("the replay", () => replay.includes("still-2"), 60_000, 50);
    const closed = new Promise((resolve) => (again.onclose = (event) => resolve(event.code)));
    assert.equal((await call("DELETE", `/sandboxes/${box.sandboxId}/pty/${pty.sessionId}`)).status, 204);
    assert.equal((await call("DELETE", `/sandboxes/${box.sandboxId}/pty/${pty.sessionId}`)).status, 404);
    assert.equal(await closed, 1000);
  });

  test("a terminal's exit closes with 1000; its exit code is a result; any command may run on one", async () => {
    const made = await call("POST", `/sandboxes/${box.sandboxId}/pty`, { body: { cmd: "sh", args: ["-c", "read x; exit 8"] } });
    assert.equal(made.status, 201, made.text);
    const socket = new WebSocket(`${origin.replace("http", "ws")}/api/sandboxes/${box.sandboxId}/pty/${made.json.sessionID}?api_key=${apiKey}`);
    socket.onopen = () => socket.send("\r");
    assert.equal(await new Promise((resolve) => (socket.onclose = (event) => resolve(event.code))), 1000);
    const result = await call("GET", `/sandboxes/${box.sandboxId}/exec/${made.json.sessionID}/result`);
    assert.deepEqual([result.json.running, result.json.exitCode], [false, 8]);
  });

  test("less and top draw on the terminal and leave on q", async (t) => {
    if ((await box.exec.run("command -v less && command -v top")).exitCode !== 0) return t.skip("the template has no less or top");
    const pty = await openTerminal(box);
    pty.send("seq 1 500 | less; echo less-$?\n");
    await pty.saw("23");
    pty.send("G");
    await pty.saw("500");
    pty.send("q");
    await pty.saw("less-0");
    pty.send("top; echo top-$?\n");
    await pty.saw("Tasks");
    pty.send("q");
    await pty.saw("top-0");
    pty.close();
  });

  test("hibernate closes with 1001; the session goes on after the wake", async () => {
    const seen = collector();
    const session = await box.exec.start("i=0; while :; do i=$((i+1)); echo tick $i; sleep 0.2; done", seen.options);
    await seen.saw("tick 2\n");
    const raw = new WebSocket(`${origin.replace("http", "ws")}/api/sandboxes/${box.sandboxId}/exec/${session.sessionId}?api_key=${apiKey}`);
    const closed = new Promise((resolve) => (raw.onclose = (event) => resolve(event.code)));
    await new Promise((resolve) => (raw.onopen = resolve));
    await box.hibernate();
    assert.equal(await closed, 1001);
    assert.equal(await session.done, -1);
    const [again, other] = await comeBack(box, session); // wakes it
    await eventually("ticks after the wake", () => again.text.out.split("\n").length > 12, 120_000, 100);
    const ticks = again.text.out.trim().split("\n").filter((line) => /^tick \d+$/.test(line)).map((line) => Number(line.slice(5)));
    assert.deepEqual(ticks, ticks.map((_, i) => i + 1), "no tick is missing");
    await other.kill();
    assert.equal(await other.done, 137);
  });

  test("shoal shell: keys, exit, detach and back", { skip: noCli }, async () => {
    const first = await shoalOnTerminal(["shell", box.sandboxId], "echo up-$((1+1))\nexit\n");
    assert.equal(first.code, 0, first.out);
    assert.match(first.out, /up-2/);
    const left = await shoalOnTerminal(["shell", box.sandboxId], "X=kept\n\u001d");
    assert.equal(left.code, 0, left.out);
    const session = /--attach (\w+) /.exec(left.out)?.[1];
    assert.ok(session, left.out);
    const back = await shoalOnTerminal(["shell", "--attach", session, box.sandboxId], "echo $X-$((2+2))\nexit\n");
    assert.equal(back.code, 0, back.out);
    assert.match(back.out, /kept-4/);
  });

  // Failed once in a full run (Ctrl-C was shown, the command did not end); tests/client/test_session has it without a guest.
  test("shoal exec -it: keys, Ctrl-C, exit code, detach and back", { skip: noCli || (!long && "with --long") }, async () => {
    const done = await shoalOnTerminal(["exec", "-it", box.sandboxId, "--", "sh", "-c", "'read x; echo got-$x; exit 6'"], "this\n");
    assert.equal(done.code, 6, done.out);
    assert.match(done.out, /got-this/);
    const stopped = await shoalOnTerminal(["exec", "-it", box.sandboxId, "--", "sh", "-c", "'echo up; exec sleep 600'"], "\u0003", "up");
    assert.equal(stopped.code, 130, stopped.out);
    const left = await shoalOnTerminal(["exec", "-it", box.sandboxId, "'echo up; cat'"], "\u001d", "up");
    assert.equal(left.code, 0, left.out);
    const session = /--attach (\w+) /.exec(left.out)?.[1];
    assert.ok(session, left.out);
    const back = await shoalOnTerminal(["shell", "--attach", session, box.sandboxId], "again\n\u0004", "up");
    assert.equal(back.code, 0, back.out);
    assert.match(back.out, /again\r\nagain/);
  });

  test("through every node", { skip: count < 2 && "SHOAL_NODES is not set" }, async () => {
    for (const url of origins) {
      const there = await Sandbox.connect(box.sandboxId, { apiUrl: url, apiKey });
      const seen = collector();
      const session = await there.exec.start("read x; echo $x; seq 1 100000 | tail -n 1; exit 5", seen.options);
      session.sendStdin(`via ${url}\n`);
      assert.equal(await session.done, 5);
      assert.equal(seen.text.out, `via ${url}\n100000\n`);
      const pty = await openTerminal(there);
      pty.send("echo here-$((2+3))\n");
      await pty.saw("here-5");
      pty.close();
    }
  });

  test("a restart of the daemon leaves sessions alone", { skip: !long && "with --long" || noMachine }, async () => {
    const seen = collector();
    const session = await box.exec.start("read x; echo $x", seen.options);
    await killDaemon();
    assert.equal(await session.done, -1);
    await startDaemon();
    const again = collector();
    const other = await eventually("the node", () => box.exec.attach(session.sessionId, again.options).catch(() => null));
    other.sendStdin("still here\n");
    assert.equal(await other.done, 0);
    assert.equal(again.text.out, "still here\n");
  });

  test("50 sessions with 10 MB each, complete and in order", { skip: !long && "with --long", timeout: 1_800_000 }, async () => {
    await Promise.all(Array.from({ length: 50 }, async () => {
      const seen = collector();
      const session = await box.exec.start("read x; seq 1 1400000", seen.options);
      session.sendStdin("\n");
      assert.equal(await session.done, 0);
      assert.equal(seen.text.err, "");
      const lines = seen.text.out.split("\n");
      assert.equal(lines.length, 1400001);
      lines.pop();
      assert.ok(lines.every((line, i) => Number(line) === i + 1));
    }));
  });
});

