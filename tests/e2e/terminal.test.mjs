// What people run on a terminal: an editor, a pager, a monitor (template base, with SHOAL_TEST_LONG).
import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { call, cleanUp, createBox, eventually, long, sh, suite, takeTurn } from "./lib/shoal.mjs";

const skip = suite.skip || (long ? false : "it runs with SHOAL_TEST_LONG");
if (!skip) await takeTurn();

const PATIENCE_MS = Number(process.env.SHOAL_TEST_PATIENCE_MS ?? 120_000);

/** A terminal; `saw` waits for what came since the last `send`. */
async function openTerminal(box, options) {
  const decoder = new TextDecoder();
  let text = "";
  const pty = await box.pty.create({ ...options, onOutput: (bytes) => (text += decoder.decode(bytes, { stream: true })) });
  await eventually("the prompt", () => text.length > 0, 60_000, 50);
  return {
    sessionId: pty.sessionId,
    send: (keys) => ((text = ""), pty.send(keys)),
    saw: (part) => eventually(`${part}`, () => part.test(text), PATIENCE_MS, 50)
      .catch((error) => assert.fail(`${error.message}: ${JSON.stringify(text.slice(-1500))}`)),
    close: () => pty.close(),
  };
}

describe("programs on a terminal", { ...suite, skip }, () => {
  let box, pty;
  before(async () => {
    box = await createBox({ template: "base", memoryMB: 1024 });
    const missing = "for p in vim htop less; do command -v $p >/dev/null || echo $p; done";
    const wanted = (await sh(box, missing)).split("\n").filter(Boolean);
    if (wanted.length) await sh(box, `sudo apt-get update -qq && sudo apt-get install -y -qq ${wanted.join(" ")} >/dev/null`, { timeout: 900 });
    assert.equal(await sh(box, missing), "");
  });
  beforeEach(async () => {
    pty = await openTerminal(box, { cols: 100, rows: 30 });
  });
  afterEach(() => pty.close());
  after(cleanUp);

  test("vim: insert, search and replace, undo, save; the file is right", async () => {
    pty.send("vim -u NONE /tmp/edited; echo vim-$?\r");
    await pty.saw(/\[New/);
    pty.send("i");
    pty.send("first line\rsecond grüße\rthird\u001b");
    await pty.saw(/third/);
    pty.send(":%s/second/2nd/\r");
    await pty.saw(/2nd/);
    pty.send("Gdd");
    pty.send("u");
    pty.send(":wq\r");
    await pty.saw(/vim-0/);
    assert.equal(await box.files.read("/tmp/edited"), "first line\n2nd grüße\nthird\n");
  });

  test("vim: arrow keys, and a window that changes its size", async () => {
    await box.files.write("/tmp/moved", "abc\ndef\n");
    pty.send("vim -u NONE -c 'set nocompatible' /tmp/moved; echo vim-$?\r");
    await pty.saw(/def/);
    const reply = await call("POST", `/sandboxes/${box.sandboxId}/pty/${pty.sessionId}/resize`, { body: { cols: 70, rows: 20 } });
    assert.equal(reply.status, 204, reply.text);
    pty.send(":echo 'size' &columns &lines\r");
    await pty.saw(/size 70 20/);
    pty.send("\u001b[B\u001b[C");
    pty.send("x");
    pty.send(":x\r");
    await pty.saw(/vim-0/);
    assert.equal(await box.files.read("/tmp/moved"), "abc\ndf\n");
    pty.send("stty -a | grep -o ' echo '; echo ab\u007f-c\r"); // the terminal is as before
    await pty.saw(/ echo[\s\S]*a-c/);
  });

  test("htop draws, takes keys, and leaves on q", async () => {
    pty.send("htop; echo htop-$?\r");
    await pty.saw(/Tasks/);
    await pty.saw(/F10/);
    pty.send("\u001bOP"); // F1: help
    await pty.saw(/[Hh]top \d/);
    pty.send(" ");
    await pty.saw(/F10/);
    pty.send("q");
    await pty.saw(/htop-0/);
  });

  test("less pages, searches, goes to the end, and leaves on q", async () => {
    pty.send("seq 1 500 | less; echo less-$?\r");
    await pty.saw(/\b19\b/);
    pty.send(" ");
    await pty.saw(/\b38\b/);
    pty.send("/333\r");
    await pty.saw(/333/);
    pty.send("G");
    await pty.saw(/500[\s\S]*\(END\)/);
    pty.send("q");
    await pty.saw(/less-0/);
  });

});
