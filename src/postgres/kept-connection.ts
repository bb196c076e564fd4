import type { AmbiguousError } from "../hosts/ambiguous-error.js";
import type { ClientLike, PoolClients, ResultLike } from "./pool-clients.js";

/** What a process hears of the database. */
export interface Listening {
  readonly channel: string;
  readonly heard: (payload: string) => void;
}

/** The connection that stays, for the beats and what the database tells. It is made again when it has ended. */
export class KeptConnection {
  readonly #clients: PoolClients;
  readonly #listening: Listening | undefined;
  #client: Promise<ClientLike> | undefined;
  /** Never rejects. */
  #asking: Promise<unknown> = Promise.resolve();
  #isClosed = false;
  #hasListened = false;

  /** @param listening undefined where the database cannot tell */
  constructor(clients: PoolClients, listening: Listening | undefined) {
    this.#clients = clients;
    this.#listening = listening;
  }

  async query(text: string, values: readonly unknown[]): Promise<ResultLike> {
    // One after the other: the client would queue them itself, and count the wait as part of the answer's time.
    const asking = this.#asking.then(async () => this.#query(text, values));
    this.#asking = asking.catch(() => {});
    return asking;
  }

  /** What is asked from now on goes over a new connection, and does not wait for an answer that is missing. */
  reconnect(): void {
    const [client, asking] = [this.#client, this.#asking];
    this.#client = undefined;
    this.#asking = Promise.resolve();
    const discard = async (one: ClientLike): Promise<void> => asking.then(() => this.#clients.discard(one));
    void client?.then(discard, () => {});
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    const client = this.#client;
    this.#client = undefined;
    await client?.then(
      (one) => this.#clients.discard(one),
      () => {},
    );
  }

  async #query(text: string, values: readonly unknown[]): Promise<ResultLike> {
    const client = await this.#keep();
    try {
      return await this.#clients.ask(client, text, values);
    } catch (error) {
      // What is asked next would wait behind the answer that is missing.
      if ((error as AmbiguousError).isAmbiguous) await this.#forget(client);
      throw error;
    }
  }

  /** Resolves with whether it was the one that stays: its error and its end are told one after the other. */
  async #forget(client: ClientLike): Promise<boolean> {
    const keeping = this.#client;
    const current = await keeping?.catch(() => undefined);
    if (current !== client || this.#client !== keeping) return false;
    this.#client = undefined;
    this.#clients.discard(client);
    return true;
  }

  async #keep(): Promise<ClientLike> {
    if (this.#client !== undefined) return this.#client;
    const keeping = this.#connect();
    this.#client = keeping;
    keeping.catch(() => {
      if (this.#client === keeping) this.#client = undefined;
    });
    return keeping;
  }

  async #connect(): Promise<ClientLike> {
    const client = await this.#clients.connect();
    const forget = (): void => {
      void this.#forget(client).then((isForgotten) => {
        // What the database tells meanwhile is lost: the next beat would listen again, but that may be seconds away.
        if (isForgotten && !this.#isClosed) void this.#keep().catch(() => {});
      });
    };
    client.on("error", forget);
    client.on("end", forget);
    const { channel, heard } = this.#listening ?? {};
    if (channel === undefined) return client;
    client.on("notification", ({ payload = "", processId }) => {
      // It tells its own news to everybody, and so to itself.
      if (processId !== client.processID) heard!(payload);
    });
    try {
      await this.#clients.ask(client, `listen ${channel}`, []);
    } catch (error) {
      this.#clients.discard(client);
      throw error;
    }
    if (this.#hasListened) heard!("");
    this.#hasListened = true;
    return client;
  }
}
