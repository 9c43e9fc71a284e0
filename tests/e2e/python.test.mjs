// The Python SDK from PyPI (python/requirements.txt), unmodified: the halves of the contract tests that say so
// (7, 24, 27, 29, 42, 44, 52, 61, 65, 72, 86). What each one does is in python/sdk.py.
//
//   SHOAL_PYTHON   a Python that has the SDK (python3)
import assert from "node:assert/strict";
import { execFile, execFileSync } from "node:child_process";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { long, noNode, suite, takeTurn } from "./lib/shoal.mjs";

const python = process.env.SHOAL_PYTHON ?? "python3";
const script = fileURLToPath(new URL("python/sdk.py", import.meta.url));

function findReason() {
  if (noNode) return noNode;
  try {
    execFileSync(python, ["-c", "import opencomputer"], { stdio: "pipe" });
    return false;
  } catch (error) {
    return `${python} has no opencomputer-sdk (python3 -m venv DIR && DIR/bin/pip install -r python/requirements.txt; ` +
      `SHOAL_PYTHON=DIR/bin/python3): ${String(error.stderr ?? error).trim().split("\n").pop()}`;
  }
}

const skip = findReason();
if (!skip) await takeTurn();

const run = (name) => new Promise((resolve) => {
  execFile(python, [script, name], { timeout: 600_000 }, (error, stdout, stderr) => resolve({ error, text: stdout + stderr }));
});

describe("the Python SDK", { ...suite, skip }, () => {
  for (const [name, title, only] of [
    ["life", "create, connect, hibernate, wake, kill"],
    ["addresses", "the address with and without /api and slashes, for requests, sessions and terminals", "long"],
    ["files", "files of all bytes, folders"],
    ["much_output", "10 000 lines and megabytes are complete, through run and a session", "long"],
    ["long_command", "a command of 40 s, where the client waits 30 s for a byte", "long"],
    ["sessions", "a session: attach, the marker, input, kill, list"],
    ["shell", "a shell keeps cwd, variables and functions"],
    ["terminal", "a terminal, whose socket has no /api and the token as key; also after a wake"],
    ["images", "an image, its cache, a snapshot; one client for events and for JSON", "long"],
    ["patches", "checkpoint, fork, patch", "long"],
    ["agents", "an agent without a key (template base)", "long"],
  ]) {
    test(title, { skip: only && !long && "takes long: set SHOAL_TEST_LONG" }, async () => {
      const { error, text } = await run(name);
      assert.ok(!error, text.slice(-3000));
    });
  }
});
