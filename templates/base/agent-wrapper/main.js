#!/usr/bin/env node
// An agent for whoever is on the other end of stdin and stdout: the Claude Agent SDK behind one JSON
// object per line. The node starts it as an exec session (docs/api.md, Agents); it runs by hand, too.
//
//   in   configure {model, systemPrompt, allowedTools, permissionMode, maxTurns, cwd, mcpServers, resume}
//        prompt {text, resume?}   interrupt {}
//   out  ready · configured · messages of the SDK as they are · interrupted · error {message}
//        turn_complete {claude_session_id}, after each prompt whatever became of it
//
// Prompts wait for each other. Each turn is a process of its own that resumes the conversation, so
// an idle agent needs little memory and a change of configuration takes effect with the next prompt.
// The end of stdin ends it after the last prompt. What is no event goes to stderr.
import { existsSync, statSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { emit, log } from "./output.js";
import { checkConfig } from "./config.js";
import { runTurn } from "./turn.js";

const QUEUE_MAX = 1000;
const RESULT_PREFIX = /^Claude Code returned an error result: /; // the result itself was an event

/** Where the key may come from; the first three are read by the SDK itself. */
function hasCredentials(env) {
  const names = ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX", "CLAUDE_CODE_USE_FOUNDRY"];
  return names.some((name) => env[name]) ||
    existsSync(join(env.CLAUDE_CONFIG_DIR ?? join(homedir(), ".claude"), ".credentials.json"));
}

const NO_KEY = "ANTHROPIC_API_KEY is not set: put it in a secret store and create the sandbox with " +
  "secretStore, or pass it in envs";

class Agent {
  config = {};
  queue = [];
  turn = null; // the one under way
  sessionId = null; // of the conversation
  hasInputEnded = false;

  take(line) {
    let message;
    try {
      message = JSON.parse(line);
    } catch {
      message = null;
    }
    if (typeof message?.type !== "string") {
      emit({ type: "error", message: "input must be one JSON object with a type per line" });
    } else if (message.type === "configure") {
      this.configure(message);
    } else if (message.type === "prompt") {
      this.prompt(message);
    } else if (message.type === "interrupt") {
      this.interrupt();
    } else {
      emit({ type: "error", message: `unknown input type '${message.type.slice(0, 64)}'` });
    }
  }

  configure({ type, ...changes }) {
    const wrong = checkConfig(changes);
    if (wrong) {
      emit({ type: "error", message: wrong });
      return;
    }
    this.config = { ...this.config, ...changes };
    if (changes.resume) this.sessionId = null; // it goes first, once
    emit({ type: "configured" });
  }

  prompt({ text, resume }) {
    if (typeof text !== "string" || text === "" || (resume != null && typeof resume !== "string")) {
      emit({ type: "error", message: "a prompt needs a text, and resume must be a string" });
    } else if (this.queue.length === QUEUE_MAX) {
      emit({ type: "error", message: `${QUEUE_MAX} prompts are waiting already: this one is dropped` });
    } else {
      this.queue.push({ text, resume });
      this.next();
    }
  }

  interrupt() {
    if (this.turn) this.turn.interrupt();
    else emit({ type: "interrupted" }); // there is nothing to stop
  }

  next() {
    if (this.turn) return;
    const prompt = this.queue.shift();
    if (prompt) void this.run(prompt);
    else if (this.hasInputEnded) process.exit(0);
  }

  async run({ text, resume }) {
    const cwd = this.config.cwd ?? homedir();
    const from = resume ?? this.sessionId ?? this.config.resume ?? null;
    this.turn = { interrupt() {} };
    try {
      if (!statSync(cwd, { throwIfNoEntry: false })?.isDirectory()) throw new Error(`cwd is no folder: ${cwd}`);
      await runTurn({ text, from, cwd, config: this.config }, (turn) => { this.turn = turn; },
        (id) => { this.sessionId = id; });
    } catch (error) {
      emit({ type: "error", message: String(error?.message ?? error).replace(RESULT_PREFIX, "") });
    }
    emit({ type: "turn_complete", claude_session_id: this.sessionId });
    this.turn = null;
    this.next();
  }

  end() {
    this.hasInputEnded = true;
    this.next();
  }
}

function main() {
  console.log = console.info = console.debug = log; // stdout is for events alone
  process.on("uncaughtException", (error) => {
    emit({ type: "error", message: `the agent has failed: ${error?.message ?? error}` });
    log(error?.stack ?? error);
    process.exit(1);
  });
  process.stdout.on("error", () => process.exit(1));
  if (!hasCredentials(process.env)) {
    emit({ type: "error", message: NO_KEY });
    process.exit(1);
  }
  const agent = new Agent();
  process.on("SIGINT", () => agent.interrupt());
  createInterface({ input: process.stdin, crlfDelay: Infinity })
    .on("line", (line) => { if (line.trim()) agent.take(line); })
    .on("close", () => agent.end());
  emit({ type: "ready" });
}

main();
