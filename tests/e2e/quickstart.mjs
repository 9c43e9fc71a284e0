#!/usr/bin/env node
// The first program of a user: create, run, move files, kill. Exit code 0 when all of it
// worked. Settings: OPENCOMPUTER_API_URL and OPENCOMPUTER_API_KEY (or SHOAL_URL and
// SHOAL_API_KEY), SHOAL_QUICKSTART_TEMPLATE (base).
import { randomBytes } from "node:crypto";
import { Sandbox } from "@opencomputer/sdk";

process.env.OPENCOMPUTER_API_URL ??= process.env.SHOAL_URL;
process.env.OPENCOMPUTER_API_KEY ??= process.env.SHOAL_API_KEY;
const show = (what, value, good) => {
  console.log(`${good ? "ok  " : "FAIL"} ${what}: ${value}`);
  if (!good) process.exitCode = 1;
};

const box = await Sandbox.create({ template: process.env.SHOAL_QUICKSTART_TEMPLATE ?? "base" });
show("create", box.sandboxId, box.status === "running");
try {
  const python = await box.exec.run("python3 -c 'print(6*7)'");
  show("python3 -c 'print(6*7)'", python.stdout.trim(), python.stdout === "42\n");
  const node = await box.exec.run("node -v");
  show("node -v", node.stdout.trim(), node.stdout.startsWith("v20."));
  const bytes = randomBytes(10 * 1024 * 1024);
  await box.files.write("/tmp/random.bin", bytes);
  const back = await box.files.readBytes("/tmp/random.bin");
  show("10 MB there and back", `${back.length} bytes`, bytes.equals(Buffer.from(back)));
} catch (error) {
  show("error", error.message, false);
} finally {
  await box.kill();
}
const running = await box.isRunning();
show("isRunning after kill", running, running === false);
