// The pinned SDK is the one all this was written for; needs no node.
import assert from "node:assert/strict";
import { test } from "node:test";
import { differences } from "./check-sdk.mjs";

test("the SDK sends what the suites and the server were written for", () => {
  assert.deepEqual(differences(), []);
});
