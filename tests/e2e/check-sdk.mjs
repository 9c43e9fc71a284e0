#!/usr/bin/env node
// What the SDK really sends: reads the requests out of its source and compares them with
// the list the suites (and the server) were written for. Run it after changing the
// version of the SDK; a difference means tests and server must be looked at again.
//
// usage: node check-sdk.mjs   prints the table; exit code 1 when something differs
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const VERSION = "0.12.4";
const FILES = ["sandbox", "exec", "filesystem", "pty"];

// file, method, path below the API base; in the order of the source.
const EXPECTED = `
exec GET /sandboxes/:/exec
exec GET /sandboxes/:/exec/:/result
exec POST /sandboxes/:/exec
exec POST /sandboxes/:/exec/:/kill
exec POST /sandboxes/:/exec/run
exec POST /sandboxes/:/exec/run-async
exec WS /sandboxes/:/exec/:
filesystem DELETE /sandboxes/:/files?path=:
filesystem GET /sandboxes/:/files/list?path=:
filesystem GET /sandboxes/:/files?path=:
filesystem POST /sandboxes/:/files/mkdir?path=:
filesystem PUT /sandboxes/:/files?path=:
sandbox DELETE /sandboxes/:
sandbox GET /sandboxes/:
sandbox POST /sandboxes
sandbox POST /sandboxes/:/hibernate
sandbox POST /sandboxes/:/timeout
sandbox POST /sandboxes/:/wake
`.trim().split("\n");

// Habits the server relies on: a pattern that must be in the source, and what it means.
const HABITS = [
  ["sandbox", /timeout: opts\.timeout \?\? 0/, "create sends timeout 0 when none is given"],
  ["sandbox", /templateID: opts\.template \?\? "base"/, "create always sends templateID"],
  ["sandbox", /endsWith\("\/api"\) \? base : `\$\{base\}\/api`/, "appends /api to the address"],
  ["sandbox", /return data\.status === "running"/, "isRunning compares the status"],
  ["exec", /cmd: "sh",\s*args: \["-c", command\]/, "run goes through sh -c"],
  ["exec", /opts\.timeout != null \? opts\.timeout : 60/, "run always sends a timeout"],
  ["exec", /resp\.status === 404/, "run falls back to /exec/run on 404"],
  ["exec", /handle\.execId == null && handle\.exitCode != null/, "an answer without execId is final"],
  ["exec", /if \(result\.error\)/, "a result with an error text throws"],
  ["filesystem", /"X-OSB-Async-Wake": "1"/, "file calls ask for background wake"],
  ["filesystem", /resp\.status !== 503/, "file calls retry 503 with waking"],
  ["filesystem", /encodeURIComponent\(path\)/, "paths arrive percent-encoded"],
];

const root = new URL("./node_modules/@opencomputer/sdk/", import.meta.url);

export function sdkVersion() {
  return JSON.parse(readFileSync(new URL("package.json", root), "utf8")).version;
}

function source(file) {
  return readFileSync(new URL(`dist/${file}.js`, root), "utf8");
}

/** `${this.apiUrl}/sandboxes/${x}` as /sandboxes/:, or null when it is no API address. */
function pathOf(template) {
  const match = template.match(/^\$\{(?:this\.)?(?:apiUrl|wsUrl)\}(\/.*)$/);
  if (!match) return null;
  return match[1].replace(/\$\{(?:authParam|query)\}/g, "").replace(/\$\{(?:[^{}]|\{[^}]*\})*\}/g, ":");
}

/** Requests of one file as "file METHOD path". */
export function requestsOf(file) {
  const text = source(file);
  const found = new Set();
  for (const match of text.matchAll(/`(\$\{(?:this\.)?(?:apiUrl|wsUrl)\}\/[^`]*)`/g)) {
    const path = pathOf(match[1]);
    if (!path) continue;
    if (match[1].includes("wsUrl")) {
      found.add(`${file} WS ${path}`);
      continue;
    }
    // The method stands in the same call, or a few lines above for files.write.
    const rest = text.slice(match.index, match.index + 400).split(/\bfetch\(|\n    (?:async )?\w+\(.*\{\n/)[0];
    const before = text.slice(Math.max(0, match.index - 700), match.index);
    const own = rest.match(/method: "([A-Z]+)"/);
    const above = /const url = $/.test(before) ? before.match(/method: "([A-Z]+)"(?![\s\S]*method:)/) : null;
    found.add(`${file} ${own?.[1] ?? above?.[1] ?? "GET"} ${path}`);
  }
  return [...found].sort();
}

/** Everything that is not as expected, as sentences. */
export function differences() {
  const problems = [];
  if (sdkVersion() !== VERSION) problems.push(`the SDK is ${sdkVersion()}, not ${VERSION}`);
  const seen = new Set(FILES.flatMap(requestsOf));
  for (const line of EXPECTED) {
    if (!seen.has(line)) problems.push(`not found in the source: ${line}`);
  }
  for (const file of ["exec", "filesystem"]) {
    for (const line of requestsOf(file)) {
      if (!EXPECTED.includes(line)) problems.push(`new in the source: ${line}`);
    }
  }
  for (const [file, pattern, meaning] of HABITS) {
    if (!pattern.test(source(file))) problems.push(`${file}.js no longer: ${meaning}`);
  }
  return problems;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  console.log(`@opencomputer/sdk ${sdkVersion()}`);
  for (const line of FILES.flatMap(requestsOf)) {
    console.log(`  ${EXPECTED.includes(line) ? "used " : "later"} ${line}`);
  }
  for (const [, , meaning] of HABITS) console.log(`  habit ${meaning}`);
  const problems = differences();
  for (const problem of problems) console.error(`different: ${problem}`);
  process.exitCode = problems.length ? 1 : 0;
}
