// What users do meanwhile, with the SDK through all nodes, and what they were told: a book of what
// must hold at the end.
//
// Each sandbox has a number that only grows ("raise N"). Of it the book knows
//   tried   the highest N anybody tried to write: it may not be above that
//   told    the highest N that was acknowledged
//   floor   it may not be below that: `told` of the last hibernation that was acknowledged; of
//           those with onNodeLoss "restore", which go back to their last replicated state, what
//           it read before the last one whose durability said "replicated"
import { setTimeout as sleep } from "node:timers/promises";
import { Sandbox } from "../e2e/lib/shoal.mjs";

const CALL_MS = 25_000;

/** The SDK waits for ever, a user does not. */
export function inTime(promise, ms = CALL_MS) {
  let timer;
  const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error("late")), ms); });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

export class Load {
  constructor(bed, random, sandboxes) {
    this.bed = bed;
    this.random = random;
    this.room = sandboxes;
    this.book = new Map();
    this.deleted = new Set();
    this.checkpoints = [];
    this.names = [];
    this.counts = {};
    this.faults = []; // what was seen that may not be
    this.next = 1;
    this.stopped = false;
  }

  get url() {
    return `${this.random.pick(this.bed.nodes).url}/api`;
  }

  /** An operation as one sees it: its value, or undefined when it failed. */
  async op(name, body, box) {
    const count = (this.counts[name] ??= { ok: 0, failed: 0, worst: 0 });
    const began = Date.now();
    try {
      const value = await inTime(body());
      count.ok++;
      count.worst = Math.max(count.worst, Date.now() - began);
      return value ?? true;
    } catch (error) {
      count.failed++;
      if (box && /has failed: /.test(error.message)) box.isGone = true; // a user begins anew with another one
      count.last = `${error.message}${error.cause ? `: ${error.cause.message}` : ""}`.slice(0, 160);
      return undefined;
    }
  }

  async raw(method, path, body) {
    const response = await fetch(`${this.url}${path}`, {
      method,
      headers: { "X-API-Key": this.bed.key, "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(CALL_MS),
    });
    const text = await response.text();
    if (!response.ok && response.status !== 404) throw new Error(`${response.status} ${text}`);
    return { status: response.status, body: text ? JSON.parse(text) : null };
  }

  /** Through any node, each time another one. */
  async sdk(box) {
    const sandbox = (box.sandbox ??= await Sandbox.connect(box.id, { apiKey: this.bed.key, apiUrl: this.url }));
    sandbox.apiUrl = this.url;
    sandbox.exec.apiUrl = sandbox.apiUrl;
    return sandbox;
  }

  async create() {
    const restore = this.random.below(2) === 0;
    const box = await this.op("create", async () => {
      const apiUrl = this.url, apiKey = this.bed.key;
      if (!restore) {
        const sandbox = await Sandbox.create({ template: "minimal", memoryMB: 512, timeout: 0, apiKey, apiUrl });
        return { id: sandbox.sandboxId, sandbox };
      }
      const { status, body } = await this.raw("POST", "/sandboxes",
        { templateID: "minimal", memoryMB: 512, timeout: 0, onNodeLoss: "restore", autosaveInterval: 10 });
      if (status !== 201) throw new Error(`${status}`);
      return { id: body.sandboxID };
    });
    if (!box) return undefined;
    const entry = { ...box, restore, tried: 0, told: 0, floor: 0 };
    this.book.set(box.id, entry);
    return entry;
  }

  async raise(box) {
    const n = this.next++;
    box.tried = Math.max(box.tried, n);
    const done = await this.op("write", async () => {
      const result = await (await this.sdk(box)).exec.run(`raise ${n}`);
      if (result.exitCode !== 0) throw new Error(`exit code ${result.exitCode}`);
    }, box);
    if (done) box.told = Math.max(box.told, n);
  }

  async read(box) {
    const value = await this.op("read", async () => {
      const result = await (await this.sdk(box)).exec.run("get");
      if (result.exitCode !== 0) throw new Error(`exit code ${result.exitCode}`);
      return { n: Number(result.stdout.trim()) };
    }, box);
    if (value) this.judge(box, value.n, "while it was used");
    if (value && box.restore && !box.isDurable) {
      const answer = await this.raw("GET", `/sandboxes/${box.id}`).catch(() => null);
      box.isDurable = answer?.body?.durability?.state === "replicated";
    }
    return value;
  }

  judge(box, n, when) {
    if (!(n >= box.floor && n <= box.tried)) {
      this.faults.push(`${box.id} ${when}: its number is ${n}, acknowledged as durable was ${box.floor}, tried ${box.tried}`);
    }
  }

  /** What a hibernation would keep: of one that may have gone back meanwhile only what it says, and where. */
  async present(box) {
    if (!box.restore) return { n: box.told };
    const result = await inTime((await this.sdk(box)).exec.run("get"));
    return { n: Number(result.stdout.trim()), at: (await this.raw("GET", `/sandboxes/${box.id}`)).body.workerID };
  }

  async hibernate(box) {
    const began = Date.now();
    const present = await this.present(box).catch(() => null);
    box.asleep = undefined;
    if (!(await this.op("hibernate", async () => (await this.sdk(box)).hibernate()))) return;
    box.asleep = Date.now();
    if (!present) return;
    if (!box.restore) box.floor = Math.max(box.floor, present.n);
    for (let i = 0; i < 10 && box.restore && !this.stopped; i++) {
      const answer = await this.raw("GET", `/sandboxes/${box.id}`).catch(() => null);
      if (answer?.body?.status === "hibernated" && answer.body.durability?.state === "replicated") {
        // it went back in between when its machine was lost, or when it runs elsewhere now
        if (answer.body.workerID === present.at && this.bed.lastLoss < began) box.floor = Math.max(box.floor, present.n);
        return;
      }
      await sleep(300);
    }
  }

  async checkpoint(box) {
    const made = await this.op("checkpoint", async () => (await this.sdk(box)).createCheckpoint(`c${this.next++}`));
    if (!made?.id) return;
    const checkpoint = { id: made.id, box: box.id, durable: false };
    for (let i = 0; i < 20 && !this.stopped; i++) {
      const list = await this.raw("GET", `/sandboxes/${box.id}/checkpoints`).catch(() => null);
      const found = Array.isArray(list?.body) ? list.body.find((c) => c.id === made.id) : null;
      if (found?.status === "ready" && found.durability?.state === "replicated") {
        checkpoint.durable = true;
        this.checkpoints.push(checkpoint);
        return;
      }
      await sleep(300);
    }
  }

  async remove(box) {
    const gone = await this.op("delete", async () => (await this.sdk(box)).kill());
    box.isEnding = true; // also when it failed: it may be gone
    if (gone) {
      this.deleted.add(box.id);
      this.book.delete(box.id);
    }
    return gone;
  }

  async name() {
    const name = `n${this.next++}`;
    const made = await this.op("join token", () => this.raw("POST", "/join-tokens", { ttl: 3600, name }));
    if (made) this.names.push(name);
  }

  /** One user with sandboxes of its own, one step after the other. */
  async user() {
    const mine = [];
    while (!this.stopped) {
      const dice = this.random.below(100);
      const box = mine.length ? mine[this.random.below(mine.length)] : null;
      if (!box || (dice < 8 && mine.length < this.room)) {
        const made = await this.create();
        if (made) mine.push(made);
        else await sleep(300);
      } else if (dice < 45) await this.raise(box);
      else if (dice < 70) await this.read(box);
      else if (dice < 86) await this.hibernate(box);
      else if (dice < 92) await this.op("wake", async () => (await this.sdk(box)).wake());
      else if (dice < 96) await this.checkpoint(box);
      else if (mine.length > 1) {
        mine.splice(mine.indexOf(box), 1);
        await this.remove(box);
      }
      if (box?.isGone && mine.includes(box)) mine.splice(mine.indexOf(box), 1);
      await sleep(20 + this.random.below(80));
    }
  }
}
