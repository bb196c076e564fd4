import { once } from "node:events";
import { createServer, type Server as HttpServer } from "node:http";
import { createSecureServer } from "node:http2";
import { createServer as createSecure } from "node:https";
import { createServer as createPlain, Socket, type Server } from "node:net";
import { expect, test } from "vitest";
import { answerProbe } from "../../dist/connections/probe.js";
import { Tracker } from "../../dist/connections/tracker.js";
import { check, native } from "../../dist/platform/native.js";
import { selfSigned } from "../support/client.js";

/** What the servers answer to a request for /health on one end of a pair of sockets, of which they get the other. */
async function probe(servers: Record<string, Server>, name?: string): Promise<string> {
  const [own, other] = check(native().streamPair(), "make", "a pair of sockets");
  answerProbe(Object.entries(servers), name, other);
  const socket = new Socket({ fd: own, readable: true, writable: true });
  socket.write("GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
  let text = "";
  socket.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
  await once(socket, "close");
  return text;
}

function answering(server: HttpServer): HttpServer {
  return server.on("request", ({ url, socket }, response) => {
    response.writeHead(200, { url, address: String(socket.remoteAddress) }).end();
  });
}

test.each([
  ["HTTP", () => createServer()],
  ["HTTPS, without a handshake", () => createSecure(selfSigned())],
])("a server of %s answers before it listens, and its connections are not counted", async (_, make) => {
  const server = answering(make());
  const tracker = new Tracker();
  tracker.watch(server, "web", undefined);
  let connections = 0;
  server.on("connection", () => connections++);
  const answer = probe({ web: server });
  expect(tracker.size).toBe(0);
  expect(await answer).toMatch(/^HTTP\/1.1 200 OK\r\nurl: \/health\r\naddress: undefined\r\n/);
  expect(connections).toBe(0);
  tracker.dispose();
});

test("the server of the name answers, and without a name the only one that speaks HTTP/1.1", async () => {
  const servers = {
    tcp: createPlain(),
    h2: createSecureServer(selfSigned()),
    web: answering(createServer()),
  };
  expect(await probe(servers)).toMatch(/^HTTP\/1.1 200 OK/);
  expect(await probe(servers, "web")).toMatch(/^HTTP\/1.1 200 OK/);
  const refused = 'HTTP/1.1 501 this worker has no HTTP server "h2", but web\r\n';
  expect(await probe(servers, "h2")).toContain(refused);
  const both = { ...servers, "tcp:[::]:80\r\nX: y": answering(createServer()) };
  const several = "HTTP/1.1 501 this worker has not exactly one HTTP server, but web, tcp:[::]:80??X: y\r\n";
  expect(await probe(both)).toContain(several);
  expect(await probe({})).toContain("not exactly one HTTP server, but none\r\n");
});
