import { Server as HttpServer } from "node:http";
import { Socket, type Server } from "node:net";
import { builtins, isTlsServer } from "../platform/builtins.js";
import { parserListener } from "../platform/node-internals.js";

/** A server, and the name of its listener. */
type Named = readonly [name: string, server: Server];

/**
 * Lets a server answer the request of a supervisor, which comes over a pair of sockets. The connection goes to the server's
 * HTTP, past TLS and past the program's listeners of connections. The server does not own it: it does not move, and no
 * drain waits for it.
 *
 * @param name of the listener; undefined: the only one with an HTTP server
 * @param fd this function's own from now on
 */
export function answerProbe(servers: readonly Named[], name: string | undefined, fd: number): void {
  const socket = new Socket({ fd, readable: true, writable: true });
  // The supervisor does not wait any longer.
  socket.on("error", () => socket.destroy());
  const able = servers.filter(([, server]) => speaksHttp1Only(server));
  const found = name === undefined ? able : able.filter(([one]) => one === name);
  if (found.length === 1) {
    (parserListener() as (this: Server, socket: Socket) => void).call(found[0]![1], socket);
    return;
  }
  const names = able.map(([one]) => one).join(", ") || "none";
  const wanted = name === undefined ? "not exactly one HTTP server" : `no HTTP server "${name}"`;
  const reason = `this worker has ${wanted}, but ${names}`.replaceAll(/[^ -~]/g, "?");
  socket.end(`HTTP/1.1 501 ${reason}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
}

/** A server of HTTP/2 gives a connection to HTTP/1.1 only after a handshake. */
function speaksHttp1Only(server: Server): boolean {
  return server instanceof HttpServer || (isTlsServer(server) && server instanceof builtins.https.Server);
}
