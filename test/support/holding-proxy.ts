import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { onTestFinished } from "vitest";

/** Passes on the bytes of one client, until it is told to hold them, and to pass on the first ones only. */
export class HoldingProxy {
  readonly #server: Server = createServer();
  readonly #target: Socket;
  #held: Buffer | undefined;

  static async open(target: number): Promise<HoldingProxy> {
    const proxy = new HoldingProxy(target);
    proxy.#server.listen(0, "127.0.0.1");
    await once(proxy.#server, "listening");
    return proxy;
  }

  private constructor(port: number) {
    this.#target = connect(port, "127.0.0.1").on("error", () => {});
    this.#server.once("connection", (client) => {
      client.on("error", () => {}).on("close", () => this.#target.destroy());
      this.#target.on("close", () => client.destroy()).pipe(client);
      client.on("data", (chunk) => {
        if (this.#held === undefined) this.#target.write(chunk);
        else this.#held = Buffer.concat([this.#held, chunk]);
        this.#server.emit("held");
      });
    });
    onTestFinished(() => {
      this.#target.destroy();
      this.#server.close();
    });
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Holds what the client sends from now on. */
  hold(): void {
    this.#held = Buffer.alloc(0);
  }

  /** Passes on the first bytes that are held, as soon as there are more. */
  async pass(count: number): Promise<void> {
    while (this.#held!.length <= count) await once(this.#server, "held");
    this.#target.write(this.#held!.subarray(0, count));
    this.#held = this.#held!.subarray(count);
  }

  /** Passes on all from now on. */
  goOn(): void {
    this.#target.write(this.#held!);
    this.#held = undefined;
  }
}
