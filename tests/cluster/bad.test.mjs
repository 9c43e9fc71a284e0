// Bad input: each is refused in words on both sides, and the cluster goes on.
import { describe, it } from "node:test";
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { closeSync, cpSync, mkdirSync, openSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { createConnection } from "node:net";
import { join } from "node:path";
import { Cluster, eventually, sleep, suite, withCluster } from "./cluster.mjs";
import { mistype, remake } from "./token.mjs";

const now = () => Math.floor(Date.now() / 1000);

/** The cluster takes an order through each of its nodes. */
async function goesOn(cluster, nodes = cluster.running()) {
  await cluster.settled(nodes);
  for (const node of nodes) {
    const marked = await node.call("POST", `/api/nodes/${nodes[0].name}/cordon`);
    assert.equal(marked.status, 200, JSON.stringify(marked.body));
    const opened = await node.call("POST", `/api/nodes/${nodes[0].name}/uncordon`);
    assert.equal(opened.status, 200, JSON.stringify(opened.body));
  }
}

async function seenAs(node, name, state) {
  await eventually(`${node.name} sees ${name} ${state}`, async () =>
    (await node.status())?.nodes.find((n) => n.name === name)?.state === state);
}

describe("tokens", suite, () => {
  it("that are no tokens are refused by the newcomer itself", withCluster(1, async (cluster) => {
    const [first] = cluster.nodes;
    const token = await first.token();
    const other = cluster.node();
    assert.match(await other.refused("--join", mistype(token)), /not a whole join token: copy it again/);
    assert.match(await other.refused("--join", token.slice(0, -9)), /not a whole join token/);
    assert.match(await other.refused("--join", "hello"), /not a whole join token/);
    const file = join(cluster.dir, "token");
    assert.match(await other.refused("--join", `@${file}`), /cannot read the join token in .*token/);
    writeFileSync(file, `${mistype(token)}\n`);
    assert.match(await other.refused("--join", `@${file}`), /not a whole join token/);
    assert.match(await other.refused("--join", remake(token, { expiresAt: now() - 60 })), /has expired: make a new one/);
    assert.match(await other.refused("--witness"), /a witness cannot be the first node of a cluster/);
    // none of this used the token up
    writeFileSync(file, `${token}\n`);
    await other.start("--join", `@${file}`);
    await goesOn(cluster);
  }));

  it("that the cluster does not know are refused by it, and both say why", withCluster(1, async (cluster) => {
    const [first] = cluster.nodes;
    const token = await first.token();
    const other = cluster.node();
    const cases = [
      [{ id: randomBytes(16) }, /the join token is not known to this cluster/],
      [{ secret: randomBytes(32) }, /the secret of the join token is wrong/],
    ];
    for (const [change, sentence] of cases) {
      assert.match(await other.refused("--join", remake(token, change)), sentence);
      const [last] = first.events("join_refused").slice(-1);
      assert.equal(last.name, other.name);
      assert.match(last.error, sentence);
    }
    assert.match(await other.refused("--join", remake(token, { cluster: randomBytes(16) })), /belongs to another cluster/);
    assert.equal(first.events("mesh.refused").filter((event) => event.why === "cluster").length, 1);
    await other.start("--join", token);
    await goesOn(cluster);
  }));

  it("admit one node each, once", withCluster(1, async (cluster) => {
    const [first] = cluster.nodes;
    const token = await first.token();
    const second = await cluster.node().start("--join", token);
    const third = cluster.node();
    const sentence = /the join token was used by node "node-2" already: each admits one node/;
    assert.match(await third.refused("--join", token), sentence);
    assert.match(first.events("join_refused")[0].error, sentence);
    // the one that used it may name it again at every start
    await second.stop();
    await second.start("--join", token);
    await third.start("--join", await second.token());
    await goesOn(cluster);
  }));

  it("that expired on the way are refused by the cluster", withCluster(1, async (cluster) => {
    const [first] = cluster.nodes;
    await first.token(600); // the door is open
    const short = await first.token(1);
    const late = cluster.node();
    await sleep(1500);
    // the newcomer cannot know: as if its clock were wrong
    const sentence = /the join token expired \d+ s ago: create a new one/;
    assert.match(await late.refused("--join", remake(short, { expiresAt: now() + 600 })), sentence);
    assert.match(first.events("join_refused")[0].error, sentence);
    await goesOn(cluster);
  }));

  it("do not open a cluster that gave none out", withCluster(1, async (cluster) => {
    const [first] = cluster.nodes;
    const short = await first.token(1);
    const late = cluster.node();
    await sleep(1500);
    await eventually("the door is shut", async () => {
      await first.call("POST", "/api/nodes/node-1/uncordon"); // time passes with orders and leases
      return /lets nobody join right now: the token was used or is too old/.test(
        await late.refused("--join", remake(short, { expiresAt: now() + 600 })));
    }, 60_000, 1000);
    assert.ok(first.events("mesh.refused").some((event) => event.why === "key"));
  }));

  it("of another cluster are refused by a member, and both clusters go on", withCluster(2, async (cluster) => {
    const other = new Cluster();
    try {
      const founder = other.node(3); // an address of its own
      await founder.start();
      other.key = cluster.key;
      const [first, second] = cluster.nodes;
      await founder.stop();
      const sentence = /a member of another cluster than the token's: remove it there/;
      assert.match(await founder.refused("--join", await first.token()), sentence);
      await founder.start(); // it founded one by mistake, which still works
      assert.equal(founder.exit, undefined);
      await founder.stop();
      founder.wipe(); // what the sentence says
      await founder.start("--join", await second.token());
      await cluster.settled([first, second, founder]);
    } finally {
      await other.end();
    }
  }));
});

describe("identities", suite, () => {
  it("a copy that runs beside the original is refused by all", withCluster(3, async (cluster) => {
    const [first, second, third] = cluster.nodes;
    await cluster.settled();
    const copy = cluster.node(4);
    copy.copyDataFrom(third);
    await copy.start("--worker-id", third.name);
    await eventually("the others say so", () =>
      first.events("copied_identity").length > 0 && second.events("copied_identity").length > 0);
    await eventually("the copy is told, or the original", () =>
      [copy, third].some((node) => node.events("refused_by_node").some((event) => event.why === "identity")));
    assert.match(first.events("copied_identity")[0].effect, /stop one of them/);
    await copy.stop("SIGKILL");
    await goesOn(cluster, [first, second, third]);
  }));

  it("a copy made after a stop takes the place of a node that is gone", withCluster(3, async (cluster) => {
    const [first, second, third] = cluster.nodes;
    await third.stop();
    const moved = cluster.node(4);
    moved.copyDataFrom(third);
    moved.name = third.name;
    await moved.start();
    await cluster.settled([first, second, moved]);
    // and when the original comes back, it is the one that is refused
    await third.start();
    await eventually("somebody says so", () =>
      [first, second].some((node) => node.events("copied_identity").length > 0));
    await third.stop("SIGKILL");
    await goesOn(cluster, [first, second, moved]);
  }));

  it("a wiped disk is another node: its name is taken until the old one is removed", withCluster(3, async (cluster) => {
    const [first, second, third] = cluster.nodes;
    await third.stop("SIGKILL");
    third.wipe();
    const token = await first.token();
    const sentence = /the name "node-3" belongs to another node: choose another one \(--worker-id\), or remove that node first/;
    assert.match(await third.refused("--join", token), sentence);
    assert.match(first.events("join_refused")[0].error, sentence);
    await seenAs(first, "node-3", "dead");
    assert.equal((await first.call("DELETE", "/api/nodes/node-3")).status, 204);
    await third.start("--join", token); // it was not used up
    await goesOn(cluster, [first, second, third]);
  }));

  it("a node that lost a part of its disk does not go on with the rest", withCluster(3, async (cluster) => {
    const [first, second, third] = cluster.nodes;
    await third.stop();
    third.save();
    const lose = (...path) => {
      third.restore();
      rmSync(join(third.dir, "data", ...path), { recursive: true });
    };
    lose("mesh");
    assert.match(await third.refused(), /the key of this node in .*mesh is not the one of its records/);
    lose("mesh", "log");
    assert.match(await third.refused(), /the log of the cluster in .*log is gone: put it back, or remove this node/);
    lose("db");
    assert.match(await third.refused(), /the records of this node in .*db are gone, but .*mesh says that it was in a cluster/);
    await goesOn(cluster, [first, second]);
    third.restore();
    await third.start();
    await goesOn(cluster);
  }));

  it("a disk of last week follows and catches up", withCluster(3, async (cluster) => {
    const [first, second, third] = cluster.nodes;
    await cluster.settled();
    await third.stop();
    third.save();
    await third.start();
    await cluster.settled();
    await third.stop();
    for (let i = 0; i < 20; i++) {
      const order = i % 2 ? "uncordon" : "cordon";
      assert.equal((await first.call("POST", `/api/nodes/node-2/${order}`)).status, 200);
    }
    assert.equal((await first.call("POST", "/api/nodes/node-2/drain")).status, 200);
    third.restore();
    await third.start();
    for (const status of await cluster.settled()) {
      assert.equal(status.nodes.find((node) => node.name === "node-2").mark, "draining");
    }
    await eventually("somebody noticed", () =>
      [first, second, third].some((node) => node.events("mesh.boot_went_back").length > 0 ||
        node.events("copied_identity").length > 0));
  }));

  it("a removed node that comes back is told, and holds nobody up", withCluster(3, async (cluster) => {
    const [first, second, third] = cluster.nodes;
    await third.stop("SIGKILL");
    await seenAs(first, "node-3", "dead");
    assert.equal((await first.call("DELETE", "/api/nodes/node-3")).status, 204);
    await third.start();
    await eventually("it is told", () =>
      third.events("refused_by_node").length > 0 || third.events("removed_from_cluster").length > 0);
    // "forbidden" while a token is still valid: whoever holds it may ask to join, and no more
    await eventually("so is whoever looks at the others", () => [first, second].some((node) =>
      node.events("mesh.refused").some((event) => ["key", "forbidden"].includes(event.why) &&
        /its key is not a member's/.test(`${event.sentence} ${event.detail}`))));
    const refused = await third.call("POST", "/api/nodes/node-1/cordon");
    assert.equal(refused.status, 503, JSON.stringify(refused.body));
    await third.stop();
    // not with a token either: only as a new node
    rmSync(join(third.dir, "data", "db"), { recursive: true });
    assert.match(await third.refused("--join", await first.token()),
      /this node was removed from the cluster as \\?"node-3\\?" and its key never comes back/);
    await goesOn(cluster, [first, second]);
  }));

  it("a node of another cluster at a member's address is refused, and the member comes back", withCluster(3, async (cluster) => {
    const [first, second, third] = cluster.nodes;
    await third.stop();
    const stranger = cluster.node(4); // founds a cluster, at the address of node 3
    [stranger.host, stranger.meshPort] = [third.host, third.meshPort];
    await stranger.start();
    await eventually("it is not mistaken for node 3", () => first.events("link_down").length > 0);
    await goesOn(cluster, [first, second]);
    assert.equal((await stranger.call("GET", "/api/cluster")).status, 401); // nor has it our keys
    await stranger.stop();
    // worse: it has the key of node 3, and another cluster
    stranger.copyDataFrom(third);
    cpSync(join(stranger.dir, "data", "mesh"), join(stranger.dir, "keys"), { recursive: true });
    stranger.wipe();
    cpSync(join(stranger.dir, "keys"), join(stranger.dir, "data", "mesh"), { recursive: true });
    rmSync(join(stranger.dir, "data", "mesh", "log"), { recursive: true });
    await stranger.start();
    await eventually("both sides say so", () =>
      [first, second].some((node) => node.events("refused_by_node").length > 0) &&
      stranger.events("mesh.refused").length > 0);
    await goesOn(cluster, [first, second]);
    await stranger.stop();
    await third.start();
    await goesOn(cluster, [first, second, third]);
  }));
});

describe("clocks", suite, () => {
  for (const [what, seconds] of [["behind", -86_400], ["ahead", 86_400]]) {
    it(`a member whose clock is a day ${what} says so and works`, withCluster(2, async (cluster, t) => {
      const [first] = cluster.nodes;
      const third = cluster.node();
      if (!third.setClock(seconds)) return t.skip("test_clock.so is not built");
      if (seconds > 0) {
        assert.match(await third.refused("--join", await first.token()),
          /the join token has expired: .*is the clock of this machine wrong/);
        third.env = {};
        await third.start("--join", await first.token());
        await cluster.settled();
        await third.stop();
        third.setClock(seconds);
        await third.start();
      } else {
        await third.start("--join", await first.token());
      }
      await cluster.settled();
      // it, or all others, where it schedules
      const [event] = await eventually("somebody says so", () => {
        const events = cluster.nodes.flatMap((node) => node.events("clock_off"));
        return events.length > 0 && events;
      });
      assert.ok(Math.abs(Math.abs(event.ahead_s) - 86_400) < 120, JSON.stringify(event));
      // a token from its hands is as good as any other
      const fourth = await cluster.node().start("--join", await third.token());
      assert.equal(fourth.exit, undefined, fourth.text());
      await goesOn(cluster);
    }));
  }

  it("a scheduler whose clock is a day ahead keeps the others' tokens good", withCluster(2, async (cluster, t) => {
    const [first, second] = cluster.nodes;
    await cluster.settled();
    await first.stop();
    if (!first.setClock(86_400)) return t.skip("test_clock.so is not built");
    await first.start();
    await cluster.settled();
    for (const node of [second, first]) { // whoever led, each has led now
      await node.stop();
      await node.start();
      await cluster.settled();
    }
    const third = await cluster.node().start("--join", await second.token(300));
    assert.equal(third.exit, undefined, third.text());
    await goesOn(cluster);
  }));
});

/** Sends `bytes` and waits for the other side to hang up, or a while. */
function throwAt(host, port, bytes) {
  return new Promise((resolve) => {
    const socket = createConnection({ host, port }, () => socket.write(bytes));
    const timer = setTimeout(() => socket.destroy(), 1500);
    socket.on("error", () => {});
    socket.on("data", () => {});
    socket.on("close", () => { clearTimeout(timer); resolve(); });
  });
}

describe("garbage", suite, () => {
  it("on both ports of the mesh changes nothing", withCluster(3, async (cluster) => {
    const greeting = (mechanism, asServer) => {
      const bytes = Buffer.alloc(64);
      bytes[0] = 0xff;
      bytes[9] = 0x7f;
      bytes[10] = 3;
      bytes.write(mechanism, 12);
      bytes[32] = asServer;
      return bytes;
    };
    const frame = (flags, body) => Buffer.concat([Buffer.from([flags, body.length]), body]);
    const cases = [
      Buffer.from("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
      randomBytes(65536),
      Buffer.alloc(65536),
      Buffer.alloc(1),
      greeting("NULL", 0),
      greeting("PLAIN", 0),
      greeting("CURVE", 1),
      Buffer.concat([greeting("CURVE", 0), randomBytes(4096)]),
      Buffer.concat([greeting("CURVE", 0), frame(4, Buffer.concat([Buffer.from("\x05HELLO"), randomBytes(194)]))]),
      Buffer.concat([greeting("CURVE", 0), frame(4, Buffer.from("\x08INITIATE"))]),
      // a long frame of 2^63 bytes
      Buffer.concat([greeting("CURVE", 0), Buffer.from([6, 0x7f, 255, 255, 255, 255, 255, 255, 255])]),
      Buffer.concat([greeting("NULL", 0), frame(4, Buffer.from("\x05READY\x0bSocket-Type\0\0\0\x06DEALER")), frame(0, randomBytes(200))]),
    ];
    const [status] = await cluster.settled();
    const target = cluster.leader(status);
    for (const port of [target.meshPort, target.meshPort + 1]) {
      await Promise.all(cases.map((bytes) => throwAt(target.host, port, bytes)));
    }
    // many at once, half-open
    await Promise.all(Array.from({ length: 100 }, () => throwAt(target.host, target.meshPort, greeting("CURVE", 0))));
    await goesOn(cluster);
    const after = await target.status();
    assert.equal(after.scheduler.term, status.scheduler.term, "nobody noticed");
    assert.deepEqual(target.events("link_down"), []);
  }));
});

const root = process.getuid?.() === 0;

describe("disks", suite, () => {
  it("a member whose disk is full says so; the others go on, and it starts anew when there is room",
    { skip: root ? false : "mounting needs root" }, withCluster(2, async (cluster, t) => {
      const [first, second] = cluster.nodes;
      const third = cluster.node();
      const data = join(third.dir, "data");
      mkdirSync(data);
      try {
        execFileSync("mount", ["-t", "tmpfs", "-o", "size=16m", "shoal-test", data], { stdio: "ignore" });
      } catch {
        return t.skip("cannot mount a tmpfs here");
      }
      try {
        await third.start("--join", await first.token());
        await cluster.settled();
        // every byte
        const filler = openSync(join(data, "filler"), "w");
        try {
          for (let size = 65536; size >= 1; size = size === 1 ? 0 : size >> 1) {
            try {
              for (;;) writeSync(filler, Buffer.alloc(size));
            } catch (error) {
              assert.equal(error.code, "ENOSPC");
            }
          }
        } finally {
          closeSync(filler);
        }
        await eventually("it fails", async () => {
          await first.token(); // an entry for every member's log
          return third.events("log_failed").length > 0;
        });
        const [event] = third.events("log_failed");
        assert.match(event.error, /[Nn]o space/);
        assert.match(event.effect, /takes no part in the log until there is room, and starts anew then/);
        await eventually("the others have a scheduler", async () => {
          const now = await first.status();
          return now?.scheduler.leader && now.scheduler.leader !== third.name;
        });
        assert.equal((await first.call("POST", "/api/nodes/node-2/cordon")).status, 200);
        assert.equal((await second.call("POST", "/api/nodes/node-2/uncordon")).status, 200);
        assert.equal((await third.call("GET", "/api/sandboxes")).status, 200, "it still answers");
        const before = third.events("node.ready").length;
        rmSync(join(data, "filler"));
        await eventually("it starts anew by itself", () => third.events("node.ready").length > before, 120_000);
        assert.equal(third.events("log_disk_back").length, 1);
        await goesOn(cluster);
      } finally {
        await third.stop("SIGKILL");
        execFileSync("umount", ["-l", data]);
      }
    }));
});

describe("joins", suite, () => {
  it("go through when the scheduler is killed meanwhile", withCluster(3, async (cluster) => {
    const [status] = await cluster.settled();
    const leader = cluster.leader(status);
    const rest = cluster.nodes.filter((node) => node !== leader);
    const fourth = cluster.node();
    const starting = fourth.start("--join", await rest[0].token());
    await eventually("it asks", () => fourth.events("joining").length > 0, 30_000, 1);
    await leader.stop("SIGKILL");
    await starting;
    assert.equal(fourth.exit, undefined, fourth.text());
    await goesOn(cluster, [...rest, fourth]);
    await leader.start();
    await goesOn(cluster, [...rest, fourth, leader]);
  }));

  it("go on when the newcomer is killed meanwhile", withCluster(2, async (cluster) => {
    const [first] = cluster.nodes;
    const third = cluster.node();
    const token = await first.token();
    const starting = third.start("--join", token);
    await eventually("it is let in", () => third.text().includes('"let_in"'), 30_000, 1);
    await sleep(100); // the cluster is saved, who else is in it is not yet
    await third.stop("SIGKILL");
    await starting;
    await third.start(); // it has heard of somebody, or says what it lacks; never silent for good
    if (third.exit !== undefined) {
      assert.match(third.text(), /let into its cluster, but stopped .*: start it with --join and its token once more/);
    }
    await third.stop();
    await third.start("--join", token);
    assert.equal(third.exit, undefined, third.text());
    await goesOn(cluster);
  }));
});

describe("the log", suite, () => {
  it("is cut, and who lags behind gets a snapshot", withCluster(3, async (cluster) => {
    const [first, second, third] = cluster.nodes;
    await cluster.settled();
    await third.stop("SIGKILL");
    const cut = async (node) =>
      Number(/^shoal_log_index\{kind="snapshot"\} (\d+)$/m.exec(await node.metrics())[1]);
    // 256 orders at a time until both have cut their logs
    let orders = 0;
    const end = Date.now() + 150_000;
    while ((await cut(first)) === 0 || (await cut(second)) === 0) {
      assert.ok(Date.now() < end, `${orders} orders did not fill the log`);
      await Promise.all(Array.from({ length: 256 }, async (_, i) => {
        const { status, body } = await first.call("POST", `/api/nodes/node-2/${i % 2 ? "un" : ""}cordon`);
        assert.equal(status, 200, JSON.stringify(body));
      }));
      orders += 256;
    }
    assert.equal((await first.call("POST", "/api/nodes/node-2/drain")).status, 200);
    await third.start();
    for (const status of await cluster.settled()) {
      assert.equal(status.nodes.find((node) => node.name === "node-2").mark, "draining");
    }
    assert.ok((await cut(third)) > 0, "it got a snapshot, not the entries");
    // and it can start from it
    await third.stop("SIGKILL");
    await third.start();
    await goesOn(cluster);
  }));
});

describe("metrics", suite, () => {
  it("show mesh, gossip, log and state of every node", withCluster(3, async (cluster) => {
    await cluster.settled();
    let leaders = 0;
    for (const node of cluster.nodes) {
      const text = await node.metrics();
      assert.match(text, /^shoal_mesh_links_up 2$/m);
      assert.match(text, /^shoal_mesh_refused_total\{why="garbage"\} 0$/m);
      assert.match(text, /^shoal_gossip_members\{state="alive"\} 3$/m);
      assert.match(text, /^shoal_log_voters 3$/m);
      assert.match(text, /^shoal_log_failed 0$/m);
      assert.match(text, /^shoal_state_rows\{table="nodes"\} 3$/m);
      leaders += Number(/^shoal_log_leader (\d)$/m.exec(text)[1]);
      for (const line of text.trimEnd().split("\n")) {
        assert.match(line, /^(# (HELP|TYPE) \w+ .+|\w+(\{\w+="[^"]*"(,\w+="[^"]*")*\})? -?[\d.e+]+)$/);
      }
    }
    assert.equal(leaders, 1);
  }));
});
