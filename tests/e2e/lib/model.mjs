// A model endpoint for tests: speaks the Messages API with server-sent events, and does what the
// last prompt says:
//   say TEXT      that text                    run COMMAND   the tool Bash, then "it said OUTPUT"
//   hang          begins and never ends        refuse        an error of the API

const VERBS = /^(?:say|run|hang|refuse)\b/;

const blocksOf = (message) =>
  typeof message?.content === "string" ? [{ type: "text", text: message.content }] : (message?.content ?? []);

/** What the last message wants: its prompt, or what a tool gave, whichever comes last in it. */
function wishOf(body) {
  const blocks = blocksOf(body.messages?.filter((message) => message.role === "user").at(-1));
  const last = blocks.findLast((block) => block.type === "tool_result" || (block.type === "text" && VERBS.test(block.text)));
  if (last?.type !== "tool_result") return { text: last?.text.trim() ?? "say ok" };
  const text = blocksOf(last).map((block) => block.text ?? "").join("");
  return { result: text.replace(/<system-reminder>.*?<\/system-reminder>/gs, "").trim() };
}

function answerOf(wish, hasBash) {
  if (wish.result !== undefined) return { text: `it said ${wish.result}` };
  const [verb, rest] = wish.text.split(/\s+(.*)/s);
  if (verb === "run" && hasBash) return { command: rest };
  return { text: verb === "say" ? rest : `no tool for: ${wish.text}` };
}

function* events(model, { text, command }) {
  const usage = { input_tokens: 1, output_tokens: 1 };
  yield { type: "message_start", message: { id: `msg_${Date.now()}`, type: "message", role: "assistant", model, content: [], stop_reason: null, stop_sequence: null, usage } };
  if (command === undefined) {
    yield { type: "content_block_start", index: 0, content_block: { type: "text", text: "" } };
    yield { type: "content_block_delta", index: 0, delta: { type: "text_delta", text } };
  } else {
    yield { type: "content_block_start", index: 0, content_block: { type: "tool_use", id: `toolu_${Date.now()}`, name: "Bash", input: {} } };
    yield { type: "content_block_delta", index: 0, delta: { type: "input_json_delta", partial_json: JSON.stringify({ command, description: "of the test" }) } };
  }
  yield { type: "content_block_stop", index: 0 };
  yield { type: "message_delta", delta: { stop_reason: command === undefined ? "end_turn" : "tool_use", stop_sequence: null }, usage };
  yield { type: "message_stop" };
}

function answer(body, response) {
  const wish = wishOf(body);
  if (wish.text === "refuse") {
    response.writeHead(400, { "content-type": "application/json" });
    response.end(JSON.stringify({ type: "error", error: { type: "invalid_request_error", message: "the model refuses" } }));
    return;
  }
  if (!body.stream) {
    const { text = "ok" } = answerOf(wish, false);
    response.writeHead(200, { "content-type": "application/json" });
    response.end(JSON.stringify({ id: "msg_1", type: "message", role: "assistant", model: body.model, content: [{ type: "text", text }], stop_reason: "end_turn", stop_sequence: null, usage: { input_tokens: 1, output_tokens: 1 } }));
    return;
  }
  response.writeHead(200, { "content-type": "text/event-stream" });
  for (const event of events(body.model, answerOf(wish, body.tools?.some((tool) => tool.name === "Bash")))) {
    response.write(`event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`);
    if (wish.text === "hang") return;
  }
  response.end();
}

/** Serves requests; @onRequest hears of {method, path, key, model, text or result, system, tools, turns}. */
export function modelHandler(onRequest) {
  const handle = async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    let body = {};
    try {
      body = JSON.parse(Buffer.concat(chunks));
    } catch {
      // not every request has one
    }
    const path = request.url.split("?")[0];
    onRequest({
      method: request.method, path, key: request.headers["x-api-key"] ?? request.headers.authorization ?? null,
      model: body.model, ...wishOf(body), system: blocksOf({ content: body.system }).map((block) => block.text).join("\n"),
      tools: body.tools?.map((tool) => tool.name) ?? [],
      turns: body.messages?.filter((message) => message.role === "assistant").length ?? 0,
    });
    if (request.method === "POST" && path === "/v1/messages") {
      answer(body, response);
    } else {
      response.writeHead(request.method === "HEAD" ? 200 : 404, { "content-type": "application/json" });
      response.end('{"type":"error","error":{"type":"not_found_error","message":"not here"}}');
    }
  };
  return (request, response) => handle(request, response).catch(() => response.destroy());
}
