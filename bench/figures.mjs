// What the benchmarks written in JavaScript share.
import { writeFileSync } from "node:fs";

/** Nearest-rank percentile of a sorted list. */
export function percentile(sorted, p) {
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil((p / 100) * sorted.length) - 1))];
}

export function summary(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return { p50: percentile(sorted, 50), p99: percentile(sorted, 99), max: sorted.at(-1), count: sorted.length };
}

export function line(name, s, unit, digits = 0) {
  const text = (value) => `${value.toFixed(digits)} ${unit}`;
  return `${name.padEnd(34)} p50 ${text(s.p50)}   p99 ${text(s.p99)}   max ${text(s.max)}   of ${s.count}`;
}

/** The last line, the file, and the exit code. */
export function finish(figures, isMet, options) {
  const text = JSON.stringify(figures);
  console.log(text);
  if (options.json) writeFileSync(options.json, `${text}\n`);
  if (options.check && !isMet) process.exitCode = 1;
}
