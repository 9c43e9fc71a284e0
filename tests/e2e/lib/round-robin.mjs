// A load balancer as users put in front of a cluster: each request goes to the next node, bodies
// stream through untouched, upgrades too.
//
//   node lib/round-robin.mjs PORT URL [URL]...    prints "ready" once it listens on 127.0.0.1
import { createServer, request } from "node:http";
import { connect } from "node:net";

const [port, ...targets] = process.argv.slice(2);
if (!targets.length) throw new Error("usage: round-robin.mjs PORT URL [URL]...");
const nodes = targets.map((target) => new URL(target));
const counts = nodes.map(() => 0);
let turn = 0;

function next() {
  const index = turn++ % nodes.length;
  counts[index]++;
  return nodes[index];
}

const server = createServer((incoming, outgoing) => {
  const { hostname, port } = next();
  const { method, url: path } = incoming;
  const onward = request({ hostname, port, method, path, headers: incoming.headers }, (answer) => {
    outgoing.writeHead(answer.statusCode, answer.rawHeaders);
    answer.pipe(outgoing);
    answer.on("error", () => outgoing.destroy());
  });
  onward.on("error", () => outgoing.destroy());
  outgoing.on("close", () => onward.destroy());
  incoming.pipe(onward);
});

server.on("upgrade", (incoming, socket, head) => {
  const { hostname, port } = next();
  const onward = connect(port, hostname, () => {
    const headers = incoming.rawHeaders.reduce((text, part, i) => text + part + (i % 2 ? "\r\n" : ": "), "");
    onward.write(`${incoming.method} ${incoming.url} HTTP/1.1\r\n${headers}\r\n`);
    onward.write(head);
    onward.pipe(socket).pipe(onward);
  });
  for (const end of [onward, socket]) end.on("error", () => (onward.destroy(), socket.destroy()));
});

process.on("SIGTERM", () => {
  console.log(nodes.map((node, i) => `${node.host} ${counts[i]}`).join(", "));
  process.exit(0);
});
server.requestTimeout = 0;
server.listen(Number(port), "127.0.0.1", () => console.log("ready"));
