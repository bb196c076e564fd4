// The server of every peer: small answers, an echo, a slow answer, a stream, and WebSockets that echo. Each answer
// contains the PID of its process. With TLS_KEY and TLS_CERT, names of files, it speaks HTTPS.
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createServer as createSecureServer } from "node:https";
import { pipeline } from "node:stream/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { WebSocketServer } from "ws";

const { TLS_KEY, TLS_CERT } = process.env;

export const server =
  TLS_KEY === undefined
    ? createServer(onRequest)
    : createSecureServer({ key: readFileSync(TLS_KEY), cert: readFileSync(TLS_CERT) }, onRequest);

function onRequest(request, response) {
  response.setHeader("x-pid", process.pid);
  // A client that disconnects must not crash the server.
  answer(request, response).catch(() => response.destroy());
}

export const wss = new WebSocketServer({ server });
wss.on("connection", (ws) => {
  ws.on("error", () => {});
  ws.on("message", (message) => ws.send(message, { binary: false }));
});

async function answer(request, response) {
  if (request.url === "/slow") await sleep(300);
  if (isShuttingDown) response.setHeader("connection", "close");
  if (request.method === "POST") return pipeline(request, response);
  if (request.url === "/stream") return pipeline(count, response);
  return response.end("ok");
}

async function* count() {
  for (let n = 0; n < 10; n++) {
    yield `${n}\n`;
    await sleep(50);
  }
}

let isShuttingDown = false;

/**
 * Shuts down as the peers' documentation says, and as a careful program does: `close()` alone would wait for clients
 * that keep sending requests, until the peer kills the process.
 */
export function shutdown() {
  if (isShuttingDown) return;
  isShuttingDown = true;
  server.close(() => process.exit());
  for (const ws of wss.clients) ws.close(1001);
}
