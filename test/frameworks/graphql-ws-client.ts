import { createClient, type Client } from "graphql-ws";
import { WebSocket } from "ws";
import type { Asker, Askers } from "./load.js";

/** A client that subscribes again and again over one WebSocket, and connects again when it is told to. */
export function graphqlSubscription(): Askers {
  return { "a subscription of graphql-ws": (port) => new Subscriber(`ws://127.0.0.1:${port}/graphql`) };
}

class Subscriber implements Asker {
  readonly #client: Client;

  constructor(url: string) {
    this.#client = createClient({ url, webSocketImpl: WebSocket, lazy: false, retryAttempts: 1 });
  }

  /** The events up to the last one: the client repeats a subscription whose connection was closed. */
  async ask(): Promise<string> {
    let last = "";
    for await (const { data, errors } of this.#client.iterate({ query: "subscription { events }" })) {
      if (errors !== undefined) throw new Error(JSON.stringify(errors));
      last = String(data?.["events"]);
    }
    if (!last.startsWith("event 10 ")) throw new Error(`ended with ${last}`);
    return last;
  }

  close(): void {
    void this.#client.dispose();
  }
}
