import { connect, type NetConnectOpts } from "node:net";
import type { Line, Service } from "./service.js";

/** Probation is over soon, and a successor can upgrade again. */
export const brief = { probation: 50 };

/** Upgrades the newest generation, and waits until the next one accepts and its probation is over. */
export async function upgrade(service: Service): Promise<Line> {
  await service.until("accepting");
  const newest = service.lines.findLast(({ event }) => event === "accepting")!;
  process.kill(newest.pid, "SIGHUP");
  const next = await service.until("accepting", { generation: newest.generation + 1 });
  await service.until("exited", { generation: newest.generation, outcome: "upgraded" });
  return next;
}

/** Stops the newest generation, and waits for the end of all. */
export async function stop(service: Service): Promise<void> {
  process.kill(service.lines.findLast(({ event }) => event === "accepting")!.pid, "SIGTERM");
  await service.ended();
}

/** What a server says of itself until it ends the connection; or why there is none. */
export function ask(where: NetConnectOpts): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(where);
    let text = "";
    socket.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
    socket.on("end", () => resolve(text));
    socket.on("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
  });
}

/** Where a server can be reached on this machine, by what its `address()` says. */
export function target(address: unknown): NetConnectOpts {
  if (typeof address === "string") return { path: address };
  const { port, family, address: host } = address as { port: number; family: string; address: string };
  if (host === "::" || host === "0.0.0.0") return { port, host: family === "IPv6" ? "::1" : "127.0.0.1" };
  return { port, host };
}
