// One JSON object per line on stdout; everything else on stderr. Both are pipes, so writing waits
// for the reader, and nothing is lost when the process exits.
import { writeSync } from "node:fs";
import { format } from "node:util";

function writeAll(fd, text) {
  let rest = Buffer.from(text);
  while (rest.length > 0) {
    try {
      rest = rest.subarray(writeSync(fd, rest));
    } catch (error) {
      if (error.code !== "EAGAIN") process.exit(1); // nobody is there any more
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10);
    }
  }
}

export const emit = (event) => writeAll(1, `${JSON.stringify(event)}\n`);
export const log = (...what) => writeAll(2, `${format(...what)}\n`);
