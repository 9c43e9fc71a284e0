// Two sandboxes do not meet; the node is out of reach; the internet is not.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { cleanUp, createBox, long, origin, sh, suite, takeTurn } from "./lib/shoal.mjs";

await takeTurn();

/** A host outside that this machine reaches: the mirror in the guest's own apt sources. */
async function mirrorOf(box) {
  const sources = await sh(box, "cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null || true");
  const found = sources.match(/https?:\/\/([A-Za-z0-9.-]+)/);
  assert.ok(found, `no mirror in the guest's apt sources: ${sources}`);
  return found[1];
}

describe("isolation", suite, () => {
  let one;
  let two;
  const address = {};
  const gateway = {};

  before(async () => {
    [one, two] = [await createBox({ envs: { WHO: "one" } }), await createBox({ envs: { WHO: "two" } })];
    for (const box of [one, two]) {
      const text = await sh(box, "ip -4 -o addr show scope global; ip -4 route show default");
      address[box.sandboxId] = text.match(/inet (\d+\.\d+\.\d+\.\d+)/)?.[1];
      gateway[box.sandboxId] = text.match(/default via (\d+\.\d+\.\d+\.\d+)/)?.[1];
      assert.ok(address[box.sandboxId] && gateway[box.sandboxId], text);
    }
  });
  after(cleanUp);

  /** Whether a TCP connection from the box to host:port opens. */
  async function opens(box, host, port) {
    const out = await box.exec.run(`timeout 4 bash -c '</dev/tcp/${host}/${port}' 2>&1`, { timeout: 30 });
    return out.exitCode === 0;
  }

  test("addresses differ", () => {
    assert.notEqual(address[one.sandboxId], address[two.sandboxId]);
  });

  test("a server in one sandbox is not reachable from the other", async () => {
    await sh(two, "(while :; do echo hello | busybox nc -l -p 7777; done) >/dev/null 2>&1 &");
    await sh(two, "for i in $(seq 20); do timeout 2 bash -c '</dev/tcp/127.0.0.1/7777' && exit 0; sleep 0.5; done; exit 1");
    assert.equal(await opens(one, address[two.sandboxId], 7777), false);
    const ping = await one.exec.run(`busybox ping -c 2 -W 2 ${address[two.sandboxId]}`, { timeout: 30 });
    assert.notEqual(ping.exitCode, 0, ping.stdout);
  });

  test("UDP to the other sandbox does not arrive", async () => {
    await sh(two, "rm -f /tmp/udp; (timeout 12 busybox nc -u -l -p 7778 >/tmp/udp 2>/dev/null &) ");
    await one.exec.run(
      `for i in 1 2 3; do echo packet >/dev/udp/${address[two.sandboxId]}/7778; sleep 0.5; done`.replace(/^/, "bash -c '") + "'",
      { timeout: 30 },
    );
    assert.equal(await sh(two, "cat /tmp/udp"), "");
  });

  test("the node is not reachable, on none of its addresses", async () => {
    const port = new URL(origin).port || "80";
    const targets = [
      [gateway[one.sandboxId], port], [gateway[one.sandboxId], "8080"], [gateway[one.sandboxId], "22"],
      ["10.0.2.15", "8080"], ["10.0.2.15", "22"], ["10.0.2.2", port], ["10.0.2.2", "22"],
      ["169.254.169.253", "80"], ["169.254.1.1", "80"], ["192.168.0.1", "80"], ["172.17.0.1", port], ["100.64.0.1", "80"],
    ];
    for (const [host, number] of targets) {
      assert.equal(await opens(one, host, number), false, `${host}:${number}`);
    }
  });

  test("root in the guest cannot take the other's address", async () => {
    const stolen = address[two.sandboxId];
    await sh(one, `sudo ip addr add ${stolen}/32 dev $(ip -o route get ${gateway[one.sandboxId]} | sed 's/.* dev \\([^ ]*\\).*/\\1/')`);
    const out = await one.exec.run(`curl -sS -m 8 --interface ${stolen} http://${await mirrorOf(one)}/ -o /dev/null`, { timeout: 30 });
    assert.notEqual(out.exitCode, 0, "packets with a foreign source address left");
    // The other one still works.
    await sh(two, "true");
    await sh(one, `sudo ip addr del ${stolen}/32 dev $(ip -o route get ${gateway[one.sandboxId]} | sed 's/.* dev \\([^ ]*\\).*/\\1/')`);
  });

  test("files, processes and environment are each one's own", async () => {
    await one.files.write("/tmp/same", "one");
    await two.files.write("/tmp/same", "two");
    assert.equal(await one.files.read("/tmp/same"), "one");
    assert.equal(await two.files.read("/tmp/same"), "two");
    assert.equal((await sh(one, "echo $WHO")).trim(), "one");
    await sh(two, "sleep 4321 >/dev/null 2>&1 &");
    assert.equal((await one.exec.run("pgrep -x -f 'sleep 4321'")).stdout, "");
    const ids = await Promise.all([one, two].map((box) => sh(box, "cat /etc/machine-id /proc/sys/kernel/random/boot_id; hostname")));
    ids[0].split("\n").forEach((line, i) => {
      if (line) assert.notEqual(line, ids[1].split("\n")[i]);
    });
  });

  test("names resolve and apt-get update works inside", { skip: long ? false : "takes long: set SHOAL_TEST_LONG" }, async () => {
    await sh(one, `getent hosts ${await mirrorOf(one)}`);
    const out = await one.exec.run("sudo apt-get update", { timeout: 600 });
    assert.equal(out.exitCode, 0, out.stdout.slice(-1500) + out.stderr.slice(-1500));
    assert.doesNotMatch(out.stderr, /^(E|W|Err):/m);
  });

  test("HTTPS with the system's certificates works inside", async () => {
    const out = await one.exec.run(`curl -sS -m 60 -o /dev/null -w '%{http_code}' https://${await mirrorOf(one)}/`, { timeout: 90 });
    assert.match(out.stdout, /^[23]\d\d$/, out.stderr);
  });
});
