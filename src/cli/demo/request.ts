import { request, type Agent } from "node:http";
import type { Socket } from "node:net";

/** A request, and the reply that it must get. */
export interface Wish {
  path: string;
  /** Sent by POST. */
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
 * @param onClosed called when a keep-alive connection is closed, which may be long after its last request
 */
export function ask(
  { path, body, port, agent }: Wish & { port: number; agent: Agent | false },
  onClosed: () => void,
): Promise<Reply> {
  const method = body === undefined ? "GET" : "POST";
  return new Promise((resolve, reject) => {
    const sent = request(
      { host: "127.0.0.1", port, path, method, agent, timeout: IDLE_TIMEOUT },
      (response) => {
        let text = "";
        response.setEncoding("utf8");
        response.on("data", (chunk: string) => (text += chunk));
        response.once("error", reject);
        response.once("end", () => {
          const generation = Number(response.headers["x-generation"]);
          resolve({ status: response.statusCode ?? 0, generation, text });
        });
      },
    );
    sent.once("timeout", () => sent.destroy(Object.assign(new Error("no answer"), { code: "ETIMEDOUT" })));
    sent.once("error", reject);
    if (agent) sent.once("socket", (socket) => watch(socket, onClosed));
    sent.end(body);
  });
}

/** ms a connection may be silent. */
const IDLE_TIMEOUT = 10_000;

const watched = new WeakSet<Socket>();

function watch(socket: Socket, onClosed: () => void): void {
  if (watched.has(socket)) return;
  watched.add(socket);
  socket.once("close", onClosed);
}
