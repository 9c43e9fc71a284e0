// What the suites share: settings, the unmodified SDK, raw requests, sandboxes that are
// always cleaned up.
//
// Settings (environment):
//   SHOAL_URL       address of a node, with or without /api  (or OPENCOMPUTER_API_URL)
//   SHOAL_API_KEY   its API key                              (or OPENCOMPUTER_API_KEY)
//   SHOAL_TEMPLATE  template of most sandboxes (minimal, for speed); tests that need
//                   python3 or node use base and say so in their names
//   SHOAL_TEST_BOX  what createBox gives: created (the default), woken (hibernated and woken
//                   once) or forked (from a checkpoint); the same tests pass on each
//   SHOAL_TEST_FORKS  how many forks at once (6, with SHOAL_TEST_LONG 16; each of 512 MB)
//   SHOAL_CLI       the program `shoal`, for cli.test.mjs
//   SHOAL_TEST_SLOTS  how many suites may run at once (2)
//   SHOAL_TEST_LONG set: also what takes minutes
//
// The machine under test may be emulated, so no test asserts a time; timeouts only keep
// a hanging test from hanging the run.
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { WebSocket } from "ws";

// Node 20 has no global WebSocket without a flag, and the SDK uses the global one.
globalThis.WebSocket ??= WebSocket;

const { Sandbox } = await import("@opencomputer/sdk");
export { Sandbox, sleep };

export const apiUrl = (process.env.SHOAL_URL ?? process.env.OPENCOMPUTER_API_URL ?? "").replace(
  /\/+$/,
  "",
);
export const apiKey = process.env.SHOAL_API_KEY ?? process.env.OPENCOMPUTER_API_KEY ?? "";
export const template = process.env.SHOAL_TEMPLATE ?? "minimal";
export const boxKind = process.env.SHOAL_TEST_BOX ?? "created";
export const long = Boolean(process.env.SHOAL_TEST_LONG);

export const origin = apiUrl.replace(/\/api$/, "");
export const api = `${origin}/api`;

/** Reason to skip everything, or false. */
export const noNode = apiUrl && apiKey ? false : "SHOAL_URL and SHOAL_API_KEY are not set";

/** Options of every suite: generous, because a cold boot may take ten seconds. */
export const suite = { skip: noNode, timeout: 900_000 };

const MINUTE = 60_000;

/** Poll until `probe` returns something truthy; its last value, or a failure after `ms`, which says `what`: a
 *  function is asked then, for what was there at the end. */
export async function eventually(what, probe, ms = 2 * MINUTE, stepMs = 250) {
  const end = Date.now() + ms;
  let last;
  for (;;) {
    last = await probe();
    if (last) return last;
    if (Date.now() > end) assert.fail(`${typeof what === "function" ? what() : what}: did not happen within ${ms / 1000} s`);
    await sleep(stepMs);
  }
}

// ---- taking turns ---------------------------------------------------------------------

// Suites share one small node: as many run at once as it has slots. One that kills the daemon
// or fills the machine takes all of them.
const SLOTS = Number(process.env.SHOAL_TEST_SLOTS ?? 2);
const lockOf = (slot) =>
  join(tmpdir(), `shoal-e2e-${Buffer.from(origin).toString("hex").slice(0, 60)}-${slot}`);

function ownerIsAlive(lock) {
  try {
    process.kill(Number(readFileSync(join(lock, "pid"), "utf8")), 0);
    return true;
  } catch (error) {
    return error.code === "EPERM";
  }
}

function tryLock(lock) {
  try {
    mkdirSync(lock);
  } catch (error) {
    if (error.code !== "EEXIST") throw error;
    return false;
  }
  writeFileSync(join(lock, "pid"), String(process.pid));
  process.on("exit", () => rmSync(lock, { recursive: true, force: true }));
  return true;
}

/** The first free of these slots. */
async function lockOneOf(slots) {
  for (let tries = 0; ; tries++) {
    for (const slot of slots) {
      if (tryLock(lockOf(slot))) return;
      // A folder without a pid may be half a second old or left behind.
      if (tries % 10 === 9 && !ownerIsAlive(lockOf(slot))) {
        rmSync(lockOf(slot), { recursive: true, force: true });
      }
    }
    await sleep(200);
  }
}

/** Wait for the other suites; call it at the top of each file. `alone`: nothing else runs meanwhile. */
export async function takeTurn({ alone = false } = {}) {
  if (noNode) return;
  const slots = Array.from({ length: SLOTS }, (_, i) => i);
  if (!alone) await lockOneOf(slots);
  // All in the same order, so that two of them never wait for each other.
  else for (const slot of slots) await lockOneOf([slot]);
}

// ---- raw requests -------------------------------------------------------------------

/**
 * One request as it is, for what the SDK would not send. `path` is below /api unless it
 * is a whole address. Options: body (string or bytes, or an object for JSON), headers,
 * key (false sends none).
 */
export async function call(method, path, { body, headers = {}, key = apiKey, signal } = {}) {
  const isObject =
    body !== undefined && typeof body === "object" && !(body instanceof Uint8Array);
  const response = await fetch(path.startsWith("http") ? path : `${api}${path}`, {
    method,
    headers: {
      ...(key === false ? {} : { "X-API-Key": key }),
      ...(body !== undefined && isObject ? { "Content-Type": "application/json" } : {}),
      ...headers,
    },
    body: isObject ? JSON.stringify(body) : body,
    signal: signal ?? AbortSignal.timeout(5 * MINUTE),
  });
  const bytes = new Uint8Array(await response.arrayBuffer());
  const text = new TextDecoder().decode(bytes);
  let json;
  try {
    json = JSON.parse(text);
  } catch {
    json = undefined;
  }
  return { status: response.status, headers: response.headers, bytes, text, json };
}

/** The envelope of every refusal: the status, JSON, an `error` text. */
export function assertRefused(reply, status, text) {
  const seen = `${reply.status} ${reply.text.slice(0, 300)}`;
  const wanted = Array.isArray(status) ? status : [status];
  assert.ok(wanted.includes(reply.status), `want ${wanted.join(" or ")}, got ${seen}`);
  assert.match(reply.headers.get("content-type") ?? "", /^application\/json/, seen);
  assert.equal(typeof reply.json?.error, "string", `no error text: ${seen}`);
  assert.ok(reply.json.error.length > 0, `empty error text: ${seen}`);
  if (text) assert.match(reply.json.error, text);
}

// ---- sandboxes ----------------------------------------------------------------------

const boxes = new Set();
const creating = new Set();

const IDLE_SECONDS = 600;

/** The same sandbox with a hibernation behind it, or another one made of it. */
const become = {
  created: (box) => box,
  woken: async (box, { timeout }) => {
    await box.hibernate();
    await box.wake({ timeout });
    return box;
  },
  forked: async (box, { timeout }) => {
    const { id } = await box.createCheckpoint("of-this-box");
    try {
      return await Sandbox.createFromCheckpoint(id, { apiUrl, apiKey, timeout });
    } finally {
      await box.kill();
    }
  },
};
assert.ok(become[boxKind], `SHOAL_TEST_BOX is '${boxKind}': created, woken or forked`);

/** Whatever is being made is waited for and ended by `cleanUp`, also when a test has failed. */
function track(promise) {
  const making = promise.then((box) => {
    boxes.add(box.sandboxId);
    return box;
  });
  creating.add(making);
  return making.finally(() => creating.delete(making));
}

/** A sandbox of this kind; ended by `cleanUp` whatever happens. */
export async function createBox(options = {}, kind = boxKind) {
  // Little memory, because the machine under test may have little itself.
  const all = { apiUrl, apiKey, template, timeout: IDLE_SECONDS, memoryMB: 512, ...options };
  const box = await track(Sandbox.create(all));
  return kind === "created" ? box : track(become[kind](box, all));
}

/** Sandbox.createFromCheckpoint; ended by `cleanUp`. */
export const forkBox = (checkpointId, options = {}) =>
  track(
    Sandbox.createFromCheckpoint(checkpointId, { apiUrl, apiKey, timeout: IDLE_SECONDS, ...options }),
  );

/** A sandbox made by a raw request that is to be cleaned up too. */
export function adopt(id) {
  boxes.add(id);
  return id;
}

/** Give to `after` or `afterEach` of each file. */
export async function cleanUp() {
  // A test that failed may still have creates under way.
  await Promise.allSettled(creating);
  for (const id of boxes) {
    const reply = await call("DELETE", `/sandboxes/${id}`).catch((error) => ({ status: error }));
    if (reply.status !== 204) console.error(`clean-up: DELETE of ${id} gave ${reply.status}`);
  }
  boxes.clear();
}

/** Run a shell line; fails with both outputs when it does not exit with 0. */
export async function sh(box, line, options = {}) {
  const result = await box.exec.run(line, { timeout: 120, ...options });
  assert.equal(
    result.exitCode,
    0,
    `${line}\nexit code ${result.exitCode}\n${result.stdout.slice(-2000)}${result.stderr.slice(-2000)}`,
  );
  return result.stdout;
}

export async function getBox(id) {
  const reply = await call("GET", `/sandboxes/${id}`);
  assert.equal(reply.status, 200, reply.text);
  return reply.json;
}

/** Wait until a sandbox has this status; its object. */
export function waitStatus(id, status, ms = 3 * MINUTE) {
  let seen;
  return eventually(
    `${id} becomes ${status}`,
    async () => {
      seen = await getBox(id);
      return seen.status === status ? seen : null;
    },
    ms,
    500,
  );
}

/** Wait until a checkpoint has been stored; what the list says of it. */
export function waitReady(box, checkpointId, ms = 5 * MINUTE) {
  return eventually(
    `checkpoint ${checkpointId} becomes ready`,
    async () => {
      const found = (await box.listCheckpoints()).find((one) => one.id === checkpointId);
      assert.ok(found, `${checkpointId} is not in the list`);
      assert.notEqual(found.status, "failed", JSON.stringify(found));
      return found.status === "ready" ? found : null;
    },
    ms,
    500,
  );
}

/** Start a process that counts in memory, one step in about 50 ms; `pid` and `read()`. */
export async function startCounter(box, name = "count") {
  const file = `/dev/shm/${name}`;
  const pid = await sh(
    box,
    `(i=1000000; while :; do i=$((i + 1)); echo $i 1<>${file}; sleep 0.05; done) >/dev/null 2>&1 & echo $!`,
  );
  const counter = {
    pid: pid.trim(),
    /** Of `of`, which may be a fork of the box. */
    read: async (of = box) => Number(await sh(of, `cat ${file}`)),
    /** It counts in `of`: fails when it does not go on. */
    goesOn: async (of = box) => {
      const before = await counter.read(of);
      await eventually(`${name} goes on in ${of.sandboxId}`, async () => (await counter.read(of)) > before);
      return before;
    },
  };
  await eventually(`${name} counts`, async () => (await box.exec.run(`test -s ${file}`)).exitCode === 0);
  return counter;
}
