import { HttpClients } from "../soak/http-client.js";
import { WebSocketClients } from "../soak/websocket-client.js";
import { Crowd } from "./crowd.js";
import type { Service } from "./service.js";

/** Clients of `soak/server.js`: keep-alive connections, WebSockets, and others that hang up after each request. */
export class MixedLoad {
  readonly #long: (HttpClients | WebSocketClients)[];
  readonly #short: Crowd;

  /** Begins, and resolves when each long connection has had an answer. */
  static async on(service: Service): Promise<MixedLoad> {
    // Before that its port is not known.
    await service.until("accepting");
    const load = new MixedLoad(service);
    await Promise.all(load.#long.map(async ({ begun }) => begun));
    return load;
  }

  private constructor(service: Service) {
    this.#long = [new HttpClients(service.port, 12), new WebSocketClients(service.port, 12)];
    this.#short = new Crowd(service, 4);
  }

  /** What went wrong so far; a connection that was closed, too. */
  get failures(): string[] {
    return [...this.#long.flatMap(({ failures }) => failures as string[]), ...this.#short.failures];
  }

  /** Resolves when `more` short connections were answered from now on. */
  async answered(more: number): Promise<void> {
    await this.#short.answered(more);
  }

  /** Each client gets the answers for which it waits, and leaves. Returns what went wrong. */
  async stop(): Promise<string[]> {
    await Promise.all([...this.#long.map(async (clients) => clients.stop()), this.#short.leave()]);
    return this.failures;
  }
}
