// Commands: run, run-async with result, list, kill (contract tests 25 to 35, 40, 43).
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import {
  assertRefused, call, cleanUp, createBox, eventually, long, sh, sleep, suite, takeTurn,
} from "./lib/shoal.mjs";

await takeTurn();

describe("exec", suite, () => {
  let box;
  before(async () => {
    box = await createBox();
  });
  after(cleanUp);

  const run = (body) => call("POST", `/sandboxes/${box.sandboxId}/exec/run`, { body });
  const runAsync = (body) => call("POST", `/sandboxes/${box.sandboxId}/exec/run-async`, { body });
  const result = (execId) => call("GET", `/sandboxes/${box.sandboxId}/exec/${execId}/result`);
  const kill = (execId, body = {}) =>
    call("POST", `/sandboxes/${box.sandboxId}/exec/${execId}/kill`, { body });

  async function runOk(body) {
    const reply = await run(body);
    assert.equal(reply.status, 200, reply.text);
    return reply.json;
  }

  test("exit codes arrive with HTTP 200", async () => {
    assert.equal((await runOk({ cmd: "true" })).exitCode, 0);
    assert.equal((await runOk({ cmd: "false" })).exitCode, 1);
    assert.equal((await runOk({ cmd: "exit 42" })).exitCode, 42);
    assert.equal((await runOk({ cmd: "exit 255" })).exitCode, 255);
    assert.equal((await runOk({ cmd: "echo", args: ["a  b", "$HOME"] })).stdout, "a  b $HOME\n");
    assert.match((await runOk({ cmd: "uname -s" })).stdout, /Linux/);
  });

  test("programs that cannot run: 127, 126, and 128 + signal", async () => {
    const missing = await runOk({ cmd: "no-such-program-x", args: ["y"] });
    assert.equal(missing.exitCode, 127);
    assert.ok(missing.stderr.length > 0, "it says so on stderr");
    assert.equal((await runOk({ cmd: "no-such-program-x" })).exitCode, 127);
    assert.equal((await runOk({ cmd: "/etc/passwd", args: ["y"] })).exitCode, 126);
    assert.equal((await runOk({ cmd: "kill -9 $$" })).exitCode, 137);
    assert.equal((await runOk({ cmd: "kill -TERM $$" })).exitCode, 143);
  });

  test("stdout and stderr are separate and exact", async () => {
    const text = "line one\n\tzweite Zeile: äöü ☃ 漢字 \u{1f600}\n\n  end without newline";
    const out = await box.exec.run(`cat <<'X'\n${text}\nX\nprintf 'to err\\n' >&2`);
    assert.equal(out.stdout, `${text}\n`);
    assert.equal(out.stderr, "to err\n");
    assert.equal(out.exitCode, 0);
    const empty = await box.exec.run("true");
    assert.deepEqual([empty.stdout, empty.stderr], ["", ""]);
  });

  test("bytes that are not UTF-8 become U+FFFD, zero bytes stay", async () => {
    const out = await runOk({ cmd: "printf 'a\\377b\\000c\\303\\244'" });
    assert.equal(out.stdout, "a\ufffdb\u0000cä");
  });

  test("10 000 lines are complete", async () => {
    const expected = Array.from({ length: 10_000 }, (_, i) => `${i + 1}\n`).join("");
    assert.equal((await box.exec.run("seq 10000")).stdout, expected);
    assert.equal((await runOk({ cmd: "seq 10000" })).stdout, expected);
  });

  test("5 MB of output are complete, on both ways and both streams", async () => {
    const line = "head -c 5000000 /dev/zero | tr '\\0' x";
    for (const out of [await box.exec.run(line), await runOk({ cmd: line })]) {
      assert.equal(out.stdout.length, 5_000_000);
      assert.match(out.stdout, /^x*$/);
    }
    assert.equal((await box.exec.run(`(${line}) >&2`)).stderr.length, 5_000_000);
  });

  test("output beyond 16 MiB is cut and said to be", async () => {
    const out = await runOk({ cmd: "head -c 20000000 /dev/zero | tr '\\0' y", timeout: 300 });
    assert.equal(out.truncated, true);
    assert.ok(out.stdout.length >= 16_000_000 && out.stdout.length < 20_000_000, String(out.stdout.length));
    assert.equal(out.exitCode, 0);
  });

  test("a timeout ends the command, keeps its output, and spares the rest", async () => {
    await sh(box, "sleep 500 </dev/null >/dev/null 2>&1 & echo $! >/tmp/bystander");
    const out = await box.exec.run("echo begun; sleep 300; echo never", { timeout: 2 });
    assert.equal(out.exitCode, -1);
    assert.equal(out.stdout, "begun\n");
    assert.match(out.stderr, /Process timed out/);
    const direct = await runOk({ cmd: "sh", args: ["-c", "echo part; sleep 300 | cat"], timeout: 2 });
    assert.equal(direct.exitCode, -1);
    assert.equal(direct.stdout, "part\n");
    await sh(box, "kill -0 $(cat /tmp/bystander)");
  });

  test("a command that ignores SIGTERM is ended by its timeout all the same", async () => {
    const out = await runOk({ cmd: "trap '' TERM; echo x; while :; do sleep 1; done", timeout: 2 });
    assert.equal(out.exitCode, -1);
    assert.equal(out.stdout, "x\n");
  });

  test("a long synchronous call is valid JSON with the right result", async () => {
    const out = await runOk({ cmd: "sleep 14; echo late; exit 3", timeout: 60 });
    assert.deepEqual([out.exitCode, out.stdout], [3, "late\n"]);
  });

  test("a command of 40 seconds through both ways", { skip: long ? false : "takes long: set SHOAL_TEST_LONG" }, async () => {
    assert.equal((await runOk({ cmd: "sleep 40; echo a", timeout: 60 })).stdout, "a\n");
    assert.equal((await box.exec.run("sleep 40; echo b")).stdout, "b\n");
  });

  test("a background process does not hold the call and lives on", async () => {
    const out = await box.exec.run("sleep 600 & echo $!", { timeout: 60 });
    assert.equal(out.exitCode, 0);
    assert.match(out.stdout, /^\d+\n$/);
    await sleep(500);
    await sh(box, `kill -0 ${out.stdout.trim()}`);
    await sh(box, `kill ${out.stdout.trim()}`);
  });

  test("stdin is empty", async () => {
    const out = await box.exec.run("cat; echo done", { timeout: 60 });
    assert.deepEqual([out.stdout, out.exitCode], ["done\n", 0]);
  });

  test("run-async: a short command needs no polling, a long one is polled", async () => {
    const fast = await runAsync({ cmd: "echo quick; exit 5" });
    assert.ok([200, 202].includes(fast.status), fast.text);
    if (fast.status === 200) {
      assert.equal(fast.json.execId, undefined);
      assert.deepEqual([fast.json.exitCode, fast.json.stdout], [5, "quick\n"]);
    }
    const slow = await runAsync({ cmd: "echo one; sleep 4; echo two", timeout: 60 });
    assert.equal(slow.status, 202, slow.text);
    assert.equal(slow.json.running, true);
    assert.ok(slow.json.execId && slow.json.startedAt);
    const polled = await result(slow.json.execId);
    assert.equal(polled.status, 200);
    assert.equal(polled.json.running, true);
    const done = await eventually("the result", async () => {
      const reply = await result(slow.json.execId);
      assert.equal(reply.status, 200, reply.text);
      return reply.json.running ? null : reply.json;
    });
    assert.deepEqual([done.exitCode, done.stdout, done.stderr], [0, "one\ntwo\n", ""]);
    assert.equal((await result(slow.json.execId)).json.stdout, "one\ntwo\n", "it can be read again");
  });

  test("a result is readable five minutes later", { skip: long ? false : "takes long: set SHOAL_TEST_LONG" }, async () => {
    const started = await runAsync({ cmd: "sleep 1; echo kept" });
    await sleep(310_000);
    assert.equal((await result(started.json.execId)).json.stdout, "kept\n");
  });

  test("kill: a signal of choice, 9 by default, twice is fine", async () => {
    for (const [body, code] of [[{ signal: 15 }, 143], [{}, 137], [{ signal: 2 }, 130]]) {
      const started = await runAsync({ cmd: "exec sleep 300", timeout: 600 });
      assert.equal(started.status, 202, started.text);
      const { execId } = started.json;
      const killed = await kill(execId, body);
      assert.ok(killed.status === 200 || killed.status === 204, killed.text);
      const done = await eventually("the end", async () => {
        const reply = await result(execId);
        return reply.json.running ? null : reply.json;
      });
      assert.equal(done.exitCode, code);
      assert.ok((await kill(execId, body)).status < 300, "an ended one is fine");
    }
    await box.exec.kill((await runAsync({ cmd: "sleep 300" })).json.execId);
  });

  test("kill reaches the whole process group", async () => {
    const started = await runAsync({ cmd: "sleep 311 & sleep 312; true", timeout: 600 });
    await eventually("both run", async () => {
      const out = await box.exec.run("pgrep -c -f 'sleep 31[12]'");
      return Number(out.stdout) >= 2;
    });
    assert.ok((await kill(started.json.execId)).status < 300);
    await eventually("both are gone", async () => {
      const out = await box.exec.run("pgrep -x -f 'sleep 31[12]'");
      return out.stdout === "";
    });
  });

  test("list shows running and ended commands", async () => {
    const ended = await runAsync({ cmd: "sleep 1; exit 6" });
    const running = await runAsync({ cmd: "sleep", args: ["300"], timeout: 600 });
    assert.equal(ended.status, 202, ended.text);
    await eventually("the first ends", async () => !(await result(ended.json.execId)).json.running);
    const list = await box.exec.list();
    assert.ok(Array.isArray(list));
    for (const one of list) {
      assert.equal(typeof one.sessionID, "string");
      assert.equal(one.sandboxID, box.sandboxId);
      assert.equal(typeof one.command, "string");
      assert.ok(Array.isArray(one.args));
      assert.equal(typeof one.running, "boolean");
      assert.ok(Number.isInteger(one.attachedClients));
      assert.ok(!Number.isNaN(Date.parse(one.startedAt)));
    }
    const first = list.find((one) => one.sessionID === ended.json.execId);
    const second = list.find((one) => one.sessionID === running.json.execId);
    assert.deepEqual([first?.running, first?.exitCode], [false, 6]);
    assert.deepEqual([second?.running, second?.exitCode ?? null, second?.args], [true, null, ["300"]]);
    await box.exec.kill(running.json.execId);
  });

  test("ten at once stay apart", async () => {
    const outs = await Promise.all(
      Array.from({ length: 10 }, (_, i) =>
        box.exec.run(`for n in $(seq 300); do echo ${i}; done; echo err${i} >&2; exit ${i}`)),
    );
    outs.forEach((out, i) => {
      assert.equal(out.stdout, `${i}\n`.repeat(300));
      assert.equal(out.stderr, `err${i}\n`);
      assert.equal(out.exitCode, i);
    });
  });

  test("fifty in a row", async () => {
    for (let i = 0; i < 50; i++) assert.equal((await runOk({ cmd: "true" })).exitCode, 0, `turn ${i}`);
  });

  test("user, home, folder, sudo and /workspace are as documented", async () => {
    assert.equal((await sh(box, "whoami")).trim(), "sandbox");
    assert.equal((await sh(box, "id -u; id -g")).trim(), "1000\n1000");
    assert.equal((await sh(box, 'echo "$HOME $USER $LOGNAME $SHELL"')).trim(), "/home/sandbox sandbox sandbox /bin/bash");
    assert.equal((await sh(box, "pwd")).trim(), "/home/sandbox");
    assert.equal((await sh(box, "sudo -n id -u")).trim(), "0");
    await sh(box, "touch /workspace/x && rm /workspace/x");
    const path = (await sh(box, 'printf %s "$PATH"')).split(":");
    for (const folder of ["/usr/local/bin", "/usr/local/sbin", "/usr/bin", "/usr/sbin", "/bin", "/sbin"]) {
      assert.ok(path.includes(folder), `${folder} in ${path}`);
    }
    assert.match(await sh(box, 'printf %s "$LANG"'), /UTF-8/i);
    const name = (await sh(box, "hostname")).trim();
    assert.ok(name.length > 0);
    await sh(box, `getent hosts ${name}`);
  });

  test("cwd and env of a command", async () => {
    assert.equal((await sh(box, "pwd", { cwd: "/tmp" })).trim(), "/tmp");
    assert.equal(await sh(box, 'printf %s "$A|$B"', { env: { A: "1 2", B: "ä" } }), "1 2|ä");
  });

  test("a long command line and many variables", async () => {
    const word = "w".repeat(100_000);
    assert.equal((await sh(box, `printf %s ${word} | wc -c`)).trim(), "100000");
    // Beyond what a request may hold it is refused with a reason, not cut.
    const reply = await run({ cmd: `: ${"w".repeat(200_000)}` });
    assertRefused(reply, [400, 413]);
    const env = Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`V${i}`, "x".repeat(100)]));
    assert.equal((await sh(box, 'printf %s "$V0$V199" | wc -c', { env })).trim(), "200");
  });

  test("a client that leaves does not end the command", async () => {
    await sh(box, "rm -f /tmp/left");
    const gone = AbortSignal.timeout(1500);
    await assert.rejects(
      call("POST", `/sandboxes/${box.sandboxId}/exec/run`, {
        body: { cmd: "sleep 4; touch /tmp/left", timeout: 60 }, signal: gone,
      }),
    );
    await eventually("the command finishes", async () => box.files.exists("/tmp/left"));
  });

  test("programs have nothing of the agent's standing: priority, protection from a lack of memory", async () => {
    // priority and policy for real-time scheduling: fields 40 and 41, of the program itself and of what it starts
    assert.equal(await sh(box, "awk '{ print $40, $41 }' /proc/$$/stat; (awk '{ print $40, $41 }' /proc/self/stat); cat /proc/self/oom_score_adj"), "0 0\n0 0\n0\n");
  });

  test("the root's orphans are reaped", async () => {
    await sh(box, "for i in $(seq 20); do (sleep 0.1 &) ; done; sleep 1");
    const zombies = await sh(box, "ps -eo stat= | grep -c ^Z || true");
    assert.equal(zombies.trim(), "0");
  });
});
