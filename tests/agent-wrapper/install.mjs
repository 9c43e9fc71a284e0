// The wrapper where the template has it: beside the SDK, so that its import finds that.
import { cpSync, mkdirSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const modules = join(here, "node_modules");
export const RECIPE = join(here, "../../templates/base");
export const SDK = join(modules, "@anthropic-ai/claude-agent-sdk");

/** Copies it there, for this process alone; the path of its program. */
export function install() {
  const folder = join(modules, "@shoal", `agent-wrapper-${process.pid}`);
  mkdirSync(dirname(folder), { recursive: true });
  cpSync(join(RECIPE, "agent-wrapper"), folder, { recursive: true });
  process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
  return join(folder, "main.js");
}
