// What the template base promises (needs the template base).
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { cleanUp, createBox, long, sh, suite, takeTurn } from "./lib/shoal.mjs";

await takeTurn();

describe("template base", suite, () => {
  let box;
  before(async () => {
    box = await createBox({ template: "base", memoryMB: 2048, cpuCount: 2 });
  });
  after(cleanUp);

  test("python3 and node run", async () => {
    assert.equal(await sh(box, "python3 -c 'print(6*7)'"), "42\n");
    assert.match(await sh(box, "node -v"), /^v20\./);
    assert.match(await sh(box, "npm -v"), /^\d+\./);
    assert.equal(await sh(box, 'node -e "console.log(6*7)"'), "42\n");
  });

  test("a virtual environment of Python works", { skip: long ? false : "takes long: set SHOAL_TEST_LONG" }, async () => {
    await sh(box, "python3 -m venv /tmp/venv && /tmp/venv/bin/python -c 'import setuptools, pip'", { timeout: 300 });
  });

  test("tools of the public list are there", async () => {
    const tools =
      "gcc g++ make cmake pkg-config git git-lfs curl wget jq rsync htop tree nano vi sqlite3 ssh ip ifconfig dig " +
      "python zip unzip tar bzip2 xz ps less file strace ping sudo seq dd sha256sum md5sum openssl claude";
    const missing = await sh(box, `for t in ${tools}; do command -v $t >/dev/null || echo $t; done`);
    assert.equal(missing.split("\n").filter(Boolean).join(" "), "");
  });

  test("a C program compiles and runs", async () => {
    await box.files.write("/tmp/a.c", '#include <stdio.h>\nint main(void) { return printf("built\\n") < 0; }\n');
    assert.equal(await sh(box, "gcc -O2 -o /tmp/a /tmp/a.c && /tmp/a", { timeout: 300 }), "built\n");
  });

  test("a python server in the background answers on port 80", async () => {
    await sh(box, "cd /tmp && echo page >index.html && (python3 -m http.server 80 >/dev/null 2>&1 &)");
    assert.equal(await sh(box, "for i in $(seq 60); do curl -fsS -m 5 http://127.0.0.1/index.html 2>/dev/null && exit 0; sleep 0.5; done; exit 1", { timeout: 120 }), "page\n");
  });

  test("the disk has about 20 GB", async () => {
    const bytes = Number((await sh(box, "df -B1 --output=size / | tail -n 1")).trim());
    assert.ok(bytes > 18e9, String(bytes));
  });
});
