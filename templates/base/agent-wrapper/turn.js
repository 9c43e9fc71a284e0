// One prompt, from its process' start to its end.
import { query } from "@anthropic-ai/claude-agent-sdk";
import { queryOptions } from "./config.js";
import { emit, log } from "./output.js";

const INTERRUPT_GRACE_MS = 10_000; // then the process is ended

/** The prompt as a stream that stays open until the turn is over: only then can it be interrupted
 * in an orderly way. */
function openPrompt(text) {
  let close;
  const over = new Promise((resolve) => { close = resolve; });
  async function* messages() {
    yield { type: "user", message: { role: "user", content: text }, parent_tool_use_id: null };
    await over;
  }
  return { messages: messages(), close };
}

class Turn {
  isInterrupted = false;
  hasBegun = false; // the conversation goes on, or there is a new one

  constructor({ text, cwd, config }, from) {
    this.abort = new AbortController();
    this.prompt = openPrompt(text);
    this.stream = query({
      prompt: this.prompt.messages,
      options: {
        ...queryOptions(config, process.env),
        cwd,
        ...(from && { resume: from }),
        abortController: this.abort,
        stderr: (data) => log(data.trimEnd()),
      },
    });
  }

  interrupt() {
    if (this.isInterrupted) {
      this.abort.abort();
      return;
    }
    this.isInterrupted = true;
    this.timer = setTimeout(() => this.abort.abort(), INTERRUPT_GRACE_MS);
    this.stream.interrupt().catch((error) => {
      log(`interrupt: ${error.message}`);
      this.abort.abort();
    });
  }

  /** All messages, to the end. Those of a conversation that cannot be resumed are not shown. */
  async run(from, gotSession) {
    try {
      for await (const message of this.stream) {
        if (from && !this.hasBegun && message.type === "result" && message.is_error) {
          throw new Error(message.errors?.join("; ") || message.result || message.subtype);
        }
        this.hasBegun ||= message.type !== "result";
        if (message.session_id) gotSession(message.session_id);
        emit(message);
        if (message.type === "result") this.prompt.close();
      }
    } catch (error) {
      if (!this.isInterrupted) throw error;
    } finally {
      clearTimeout(this.timer);
      this.prompt.close();
    }
    if (this.isInterrupted) emit({ type: "interrupted" });
  }
}

/** @onTurn hears of each try, so that it can be interrupted; @gotSession of its conversation. */
export async function runTurn(what, onTurn, gotSession) {
  let from = what.from;
  for (;;) {
    const turn = new Turn(what, from);
    onTurn(turn);
    try {
      await turn.run(from, gotSession);
      return;
    } catch (error) {
      if (!from || turn.hasBegun) throw error;
      emit({ type: "error", message: `conversation ${from} cannot be resumed, a new one begins: ${error.message}` });
      from = null;
    }
  }
}
