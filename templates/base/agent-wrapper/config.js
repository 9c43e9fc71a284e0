// What may be configured, and what the SDK is given for it.

export const DEFAULT_MODEL = "claude-sonnet-4-20250514";
const DEFAULT_MAX_TURNS = 50;
const DEFAULT_MODE = "bypassPermissions"; // the sandbox is the boundary
const MODES = ["default", "acceptEdits", "bypassPermissions", "plan", "dontAsk", "auto"];

const isText = (value) => typeof value === "string" && value !== "";
const isMap = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

const checks = {
  model: [isText, "a name"],
  systemPrompt: [isText, "a text"],
  allowedTools: [(value) => Array.isArray(value) && value.every(isText), "a list of names"],
  permissionMode: [(value) => MODES.includes(value), `one of ${MODES.join(", ")}`],
  maxTurns: [(value) => Number.isInteger(value) && value > 0, "a whole number above 0"],
  cwd: [isText, "a folder"],
  mcpServers: [(value) => isMap(value) && Object.values(value).every(isMap), "an object of servers"],
  resume: [isText, "the id of a conversation"],
};

/** What is wrong with @changes, or null. Fields that are not known are left out of it. */
export function checkConfig(changes) {
  for (const [name, value] of Object.entries(changes)) {
    if (!Object.hasOwn(checks, name) || value === null) delete changes[name];
    else if (!checks[name][0](value)) return `${name} must be ${checks[name][1]}`;
  }
  return null;
}

/** allowedTools are all that there is: in most modes the SDK takes its list for those that need no
 * permission, and the mode that is the default here gives permission for everything. */
function toolOptions(allowedTools) {
  if (!allowedTools) return {};
  const builtIn = allowedTools.filter((tool) => !tool.startsWith("mcp__")).map((tool) => tool.replace(/\(.*$/s, ""));
  return { allowedTools, tools: [...new Set(builtIn)] };
}

/** Options of query(). */
export function queryOptions(config, env) {
  const mode = config.permissionMode ?? DEFAULT_MODE;
  return {
    model: config.model ?? env.ANTHROPIC_MODEL ?? DEFAULT_MODEL,
    systemPrompt: config.systemPrompt ?? { type: "preset", preset: "claude_code" },
    permissionMode: mode,
    allowDangerouslySkipPermissions: mode === "bypassPermissions",
    maxTurns: config.maxTurns ?? DEFAULT_MAX_TURNS,
    ...(config.mcpServers && { mcpServers: config.mcpServers }),
    ...toolOptions(config.allowedTools),
    env: {
      // What an agent in a box with an allowlist cannot reach, and does not need.
      DISABLE_AUTOUPDATER: "1",
      CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: "1",
      ...env,
      IS_SANDBOX: "1",
    },
  };
}
