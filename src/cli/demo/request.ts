import { request, type Agent } from "node:http";
import type { Socket } from "node:net";

/** What to ask for, and what has to come back. */
export interface Wish {
  path: string;
  /** Sent with POST. */
  body?: string;
  expected?: string;
}

export interface Reply {
  status: number;
  generation: number;
  text: string;
}

/**
 * Sends one request, once.
 *
 * @param onClosed called, at whatever time, when a connection that was to be kept is closed
 */
export function ask(
  { path, body, port, agent }: Wish & { port: number; agent: Agent | false },
  onClosed: () => void,
): Promise<Reply> {
  const method = body === undefined ? "GET" : "POST";
  return new Promise((resolve, reject) => {
    const sent = request({ host: "127.0.0.1", port, path, method, agent, timeout: PATIENCE }, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (chunk: string) => (text += chunk));
      response.once("error", reject);
      response.once("end", () => {
        const generation = Number(response.headers["x-generation"]);
        resolve({ status: response.statusCode ?? 0, generation, text });
      });
    });
    sent.once("timeout", () => sent.destroy(Object.assign(new Error("no answer"), { code: "ETIMEDOUT" })));
    sent.once("error", reject);
    if (agent) sent.once("socket", (socket) => watch(socket, onClosed));
    sent.end(body);
  });
}

/** How long, in ms, a connection may be silent. */
const PATIENCE = 10_000;

const watched = new WeakSet<Socket>();

function watch(socket: Socket, onClosed: () => void): void {
  if (watched.has(socket)) return;
  watched.add(socket);
  socket.once("close", onClosed);
}
