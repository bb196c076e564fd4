import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";
import type { AddressInfo } from "node:net";

/** A proxy on the loopback interface that can keep what it is given, pass it on late, or cut its connections. */
export class StallingProxy {
  readonly port: number;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #isStalled = false;
  /** ms */
  #delay = 0;

  static async start(target: number): Promise<StallingProxy> {
    const server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    return new StallingProxy(server, target);
  }

  private constructor(server: Server, target: number) {
    this.#server = server;
    this.port = (server.address() as AddressInfo).port;
    server.on("connection", (socket) => {
      const other = connect(target, "127.0.0.1");
      for (const [from, to] of [
        [socket, other],
        [other, socket],
      ] as const) {
        this.#sockets.add(from);
        from.on("error", () => {});
        from.on("close", () => {
          this.#sockets.delete(from);
          to.destroy();
        });
        from.on("data", (data) => {
          if (this.#delay === 0) to.write(data);
          else setTimeout(() => to.write(data), this.#delay);
        });
        if (this.#isStalled) from.pause();
      }
    });
  }

  /** From now on nothing arrives, and no connection ends. */
  stall(): void {
    this.#isStalled = true;
    for (const socket of this.#sockets) socket.pause();
  }

  /** From now on nothing arrives on the connections that are there, as if they were half open. New ones work. */
  stallPresent(): void {
    for (const socket of this.#sockets) socket.pause();
  }

  /** What was kept arrives. */
  goOn(): void {
    this.#isStalled = false;
    for (const socket of this.#sockets) socket.resume();
  }

  /** From now on everything arrives `ms` later. */
  slow(ms: number): void {
    this.#delay = ms;
  }

  /** Cuts all connections. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  close(): void {
    this.cut();
    this.#server.close();
  }
}
