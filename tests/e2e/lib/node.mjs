// The machine the node runs on: only tests that kill processes there need it.
//
// SHOAL_LAB=1 says that the node of SHOAL_URL was brought up by scripts/up (in the lab,
// or on this machine with KVM), so scripts/node and scripts/lab reach it. Without the
// setting it is tried and checked by the API key. SHOAL_LAB=0 forbids it.
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { apiKey, noNode } from "./shoal.mjs";

// SHOAL_NODE_SCRIPT is a program that knows key, status, kill and start like scripts/node does,
// for a node that was brought up in another way.
const run = promisify(execFile);
const scripts = fileURLToPath(new URL("../../../scripts/", import.meta.url));
const programs = { node: process.env.SHOAL_NODE_SCRIPT ?? `${scripts}node`, lab: `${scripts}lab` };

async function script(name, ...args) {
  const { stdout } = await run(programs[name], args, { maxBuffer: 64 << 20 });
  return stdout;
}

let inLab = false;

/** False when the machine can be reached, else why not. */
async function findReason() {
  if (noNode) return noNode;
  if (process.env.SHOAL_LAB === "0") return "SHOAL_LAB=0";
  try {
    if ((await script("node", "key")).trim() !== apiKey) {
      return "the node of SHOAL_URL is not the one scripts/up brought up here";
    }
    await script("node", "status");
  } catch (error) {
    return `scripts/node does not reach the node: ${String(error.stderr ?? error).trim().split("\n")[0]}`;
  }
  try {
    await script("lab", "status");
    inLab = process.env.SHOAL_ENGINE !== "kvm";
  } catch {
    inLab = false;
  }
  return inLab || process.getuid() === 0 ? false : "this needs root on the machine of the node";
}

export const noMachine = await findReason();

/** How programs on the node's machine reach what listens on a loopback address of this one. */
export const hereFromNode = inLab ? "10.0.2.2" : "127.0.0.1";

/** A shell line as root on the node's machine; its output. */
export async function onNode(line) {
  const { stdout } = inLab
    ? await run(`${scripts}lab`, ["exec", "sh", "-c", line], { maxBuffer: 64 << 20 })
    : await run("sh", ["-c", line], { maxBuffer: 64 << 20 });
  return stdout;
}

export const killDaemon = () => script("node", "kill");
export const startDaemon = () => script("node", "start");

/** Shell: prints the processes that run shoal-vmm for a sandbox (not this shell itself). */
const listVmms = (id) =>
  `for p in /proc/[0-9]*; do case "$(readlink $p/exe)" in */shoal-vmm|*/shoal-vmm\\ *) ` +
  `tr '\\0' ' ' <$p/cmdline | grep -q ${id} && echo \${p#/proc/};; esac; done 2>/dev/null; `;

/** The VMM processes of a sandbox on that machine, whichever node they are of. */
export async function vmmPids(id) {
  const out = await onNode(`${listVmms(id)} true`);
  return out.trim().split("\n").filter(Boolean).map(Number);
}

/** The VMM process of a sandbox, 0 when there is none. */
export async function vmmPid(id) {
  return (await vmmPids(id))[0] ?? 0;
}

/** What the kernel and the file system hold for a VMM: taken from its open descriptors. */
export async function holdings(pid) {
  const out = await onNode(
    `grep -h '^iff:' /proc/${pid}/fdinfo/* 2>/dev/null | awk '{print "tap " $2}' | sort -u; ` +
      `cut -d: -f3 /proc/${pid}/cgroup | sort -u | sed 's/^/cgroup /'; ` +
      `tr '\\0' '\\n' </proc/${pid}/cmdline | grep -A1 -x -e --dir | tail -n 1 | sed 's/^/dir /'`,
  );
  const found = { taps: [], cgroups: [], dirs: [] };
  for (const line of out.trim().split("\n")) {
    const [kind, value] = line.split(" ");
    if (value && value !== "/") found[`${kind}s`]?.push(value);
  }
  return found;
}

/** Everything on the node's machine that still carries the id or belonged to its VMM. */
export async function leftovers(id, held) {
  const out = await onNode(
    `find / -xdev \\( -path /proc -o -path /sys \\) -prune -o -name '*${id}*' -print 2>/dev/null; ` +
      `find /run /var/lib/shoal /sys/fs/cgroup -name '*${id}*' 2>/dev/null; ` +
      held.taps.map((tap) => `test -e /sys/class/net/${tap} && echo tap ${tap}; `).join("") +
      held.dirs.map((dir) => `test -e ${dir} && echo dir ${dir}; `).join("") +
      `(${listVmms(id)}) | sed 's/^/process /'; true`,
  );
  return [...new Set(out.split("\n").filter(Boolean))];
}

/** The clock of the node's machine around something: its seconds before and after. */
export async function aroundOnNode(fn) {
  const now = async () => Number(await onNode("date +%s.%N"));
  const before = await now();
  const value = await fn();
  return { before, value, after: await now() };
}
