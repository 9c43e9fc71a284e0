// What a small Internet for tests is made of: certificates of its own authorities, and names.
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";

/** @servers: {NAME: [AUTHORITY, [HOST...]]}; makes NAME.key, NAME.crt and AUTHORITY.crt in @dir. */
export function makeCertificates(dir, servers) {
  const openssl = (...args) => execFileSync("openssl", args, { cwd: dir, stdio: "pipe" });
  for (const ca of new Set(Object.values(servers).map(([ca]) => ca))) {
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", `${ca}.key`, "-out", `${ca}.crt`, "-days", "30",
      "-subj", `/CN=${ca} of the test`);
  }
  for (const [name, [ca, hosts]] of Object.entries(servers)) {
    openssl("req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", `${name}.key`, "-out", `${name}.csr`, "-subj", "/CN=test");
    writeFileSync(join(dir, `${name}.ext`), `subjectAltName=${hosts.map((host) => `DNS:${host}`)}\n`);
    openssl("x509", "-req", "-in", `${name}.csr`, "-CA", `${ca}.crt`, "-CAkey", `${ca}.key`, "-CAcreateserial",
      "-days", "30", "-extfile", `${name}.ext`, "-out", `${name}.crt`);
  }
}

/** Where the question of a message ends, and its name. */
function question(message) {
  let at = 12;
  const labels = [];
  while (message[at]) {
    labels.push(message.subarray(at + 1, at + 1 + message[at]).toString());
    at += 1 + message[at];
  }
  return { name: labels.join(".").toLowerCase(), end: at + 5 };
}

export const nameOf = (message) => question(message).name;

/** The answer of a name server that knows @names: {HOST: IPV4}. */
export function answerName(message, names) {
  const { name, end } = question(message);
  const head = Buffer.from(message.subarray(0, end));
  head.writeUInt16BE(names[name] ? 0x8180 : 0x8183, 2);
  head.fill(0, 6, 12);
  if (!names[name] || message.readUInt16BE(end - 4) !== 1) return head;
  head.writeUInt16BE(1, 6);
  return Buffer.concat([head, Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, ...names[name].split(".").map(Number)])]);
}
