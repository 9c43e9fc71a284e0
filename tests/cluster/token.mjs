// Join tokens taken apart and put together again (node/mesh/token.c), to make bad ones.
import assert from "node:assert/strict";

const prefix = "shoal-join-";
const mask = (1n << 64n) - 1n;
const iv = [
  0x6a09e667f3bcc908n, 0xbb67ae8584caa73bn, 0x3c6ef372fe94f82bn, 0xa54ff53a5f1d36f1n,
  0x510e527fade682d1n, 0x9b05688c2b3e6c1fn, 0x1f83d9abfb41bd6bn, 0x5be0cd19137e2179n,
];
const sigma = [
  [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15], [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
  [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4], [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
  [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13], [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
  [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11], [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
  [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5], [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
];
const columns = [[0, 4, 8, 12], [1, 5, 9, 13], [2, 6, 10, 14], [3, 7, 11, 15], [0, 5, 10, 15], [1, 6, 11, 12], [2, 7, 8, 13], [3, 4, 9, 14]];
const rotate = (x, n) => ((x >> n) | (x << (64n - n))) & mask;

/** BLAKE2b of `length` bytes, without a key (RFC 7693); the runtime only has the longest one. */
function blake2b(bytes, length) {
  const h = [...iv];
  h[0] ^= 0x01010000n ^ BigInt(length);
  for (let at = 0; at === 0 || at < bytes.length; at += 128) {
    const block = Buffer.alloc(128);
    bytes.copy(block, 0, at, Math.min(at + 128, bytes.length));
    const m = Array.from({ length: 16 }, (_, i) => block.readBigUInt64LE(8 * i));
    const v = [...h, ...iv];
    v[12] ^= BigInt(Math.min(at + 128, bytes.length));
    if (at + 128 >= bytes.length) v[14] ^= mask;
    for (let round = 0; round < 12; round++) {
      columns.forEach(([a, b, c, d], i) => {
        v[a] = (v[a] + v[b] + m[sigma[round % 10][2 * i]]) & mask;
        v[d] = rotate(v[d] ^ v[a], 32n);
        v[c] = (v[c] + v[d]) & mask;
        v[b] = rotate(v[b] ^ v[c], 24n);
        v[a] = (v[a] + v[b] + m[sigma[round % 10][2 * i + 1]]) & mask;
        v[d] = rotate(v[d] ^ v[a], 16n);
        v[c] = (v[c] + v[d]) & mask;
        v[b] = rotate(v[b] ^ v[c], 63n);
      });
    }
    for (let i = 0; i < 8; i++) h[i] ^= v[i] ^ v[i + 8];
  }
  const out = Buffer.alloc(64);
  h.forEach((word, i) => out.writeBigUInt64LE(word, 8 * i));
  return out.subarray(0, length);
}

// array of 7: format, then these as bin8 (0xc4, length, bytes), then expiry and addresses; counted
// from the first 0xc4
const fields = { cluster: [2, 16], serverKey: [20, 32], id: [54, 16], secret: [72, 32] };
const expiry = 104;

/** The token with each field of `changes` replaced: Buffers, `expiresAt` in seconds. */
export function remake(token, changes) {
  const raw = Buffer.from(token.slice(prefix.length), "base64url");
  const body = Buffer.from(raw.subarray(0, -4));
  assert.deepEqual(raw.subarray(-4), blake2b(body, 16).subarray(0, 4), "the test knows how tokens are made");
  const start = body.indexOf(0xc4);
  for (const [name, value] of Object.entries(changes)) {
    if (name === "expiresAt") {
      assert.equal(body[start + expiry], 0xce, "expiry is a 32-bit number");
      body.writeUInt32BE(value, start + expiry + 1);
      continue;
    }
    const [offset, length] = fields[name];
    const at = start + offset;
    assert.deepEqual([body[at - 2], body[at - 1], value.length], [0xc4, length, length], name);
    value.copy(body, at);
  }
  return prefix + Buffer.concat([body, blake2b(body, 16).subarray(0, 4)]).toString("base64url");
}

/** One letter is another one. */
export function mistype(token) {
  const at = prefix.length + 40;
  return token.slice(0, at) + (token[at] === "A" ? "B" : "A") + token.slice(at + 1);
}
