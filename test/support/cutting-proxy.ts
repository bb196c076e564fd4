import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { setImmediate } from "node:timers/promises";

/** Passes what clients send on in pieces of random length, with turns of the event loop in between. */
export class CuttingProxy {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  static async open(port: number): Promise<CuttingProxy> {
    const proxy = new CuttingProxy(port);
    proxy.#server.listen(0, "127.0.0.1");
    await once(proxy.#server, "listening");
    return proxy;
  }

  private constructor(port: number) {
    this.#server = createServer((client) => {
      const target = connect(port, "127.0.0.1");
      for (const socket of [client, target]) {
        this.#sockets.add(socket.setNoDelay().on("error", () => {}));
        socket.once("close", () => {
          this.#sockets.delete(socket);
          client.destroy();
          target.destroy();
        });
      }
      target.pipe(client);
      void pass(client, target);
    });
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}

async function pass(client: Socket, target: Socket): Promise<void> {
  try {
    for await (const chunk of client) {
      let rest = chunk as Buffer;
      while (rest.length > 0) {
        const size = Math.ceil(Math.random() ** 3 * rest.length);
        target.write(rest.subarray(0, size));
        rest = rest.subarray(size);
        for (let turns = 20 * Math.random(); turns > 0; turns--) await setImmediate();
      }
    }
    target.end();
  } catch {
    target.destroy();
  }
}
