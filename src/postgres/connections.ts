import { codeOf } from "../errors.js";
import type { AmbiguousError } from "../hosts/ambiguous-error.js";
import { PoolClients, type PoolLike, type ResultLike } from "./pool-clients.js";
import { KeptConnection, type Listening } from "./kept-connection.js";

/** The connections to a database: those of a pool, and one that stays, for the beats and what the database tells. */
export class Connections {
  readonly #clients: PoolClients;
  /** Of the connection that stays: the others of a pool may all be in use, and none of them be answered. */
  readonly #keptClients: PoolClients;
  readonly #kept: KeptConnection;

  /**
   * @param open makes a pool, or gives the program's
   * @param isOwn whether it makes one each time, which is ended here
   * @param timeout for one answer, in ms
   * @param listening undefined where the database cannot tell, as behind a pooler of transactions. `heard` is called with
   *   an empty payload after each new connection but the first: what was told before is lost
   */
  constructor(
    open: (timeout: number) => Promise<PoolLike>,
    isOwn: boolean,
    timeout: number,
    listening: Listening | undefined,
  ) {
    this.#clients = new PoolClients(open, isOwn, timeout);
    this.#keptClients = isOwn ? new PoolClients(open, isOwn, timeout) : this.#clients;
    this.#kept = new KeptConnection(this.#keptClients, listening);
  }

  /**
   * One statement, on a connection of the pool.
   *
   * @param bytes that are sent with it: it has more time
   */
  async query(text: string, values: readonly unknown[] = [], bytes = 0): Promise<ResultLike> {
    for (let attempt = 1; ; attempt++) {
      const client = await this.#clients.connect();
      try {
        const result = await this.#clients.ask(client, text, values, bytes);
        client.release();
        return result;
      } catch (error) {
        // The server has answered: the connection is usable.
        client.release((error as AmbiguousError).isAmbiguous ? true : undefined);
        // Of two statements that waited for each other one was undone.
        if (attempt === ATTEMPTS || !DEADLOCKS.has(codeOf((error as Error).cause, "ERR_INTERNAL")))
          throw error;
      }
    }
  }

  /** One statement on the connection that stays: a program that has taken all of a pool's must not end the lease. */
  async queryKept(text: string, values: readonly unknown[]): Promise<ResultLike> {
    return this.#kept.query(text, values);
  }

  /** What is asked from now on goes over new connections. */
  reconnect(): void {
    this.#clients.suspect();
    this.#keptClients.suspect();
    this.#kept.reconnect();
  }

  async close(): Promise<void> {
    await this.#kept.close();
    await Promise.all([this.#clients, this.#keptClients].map(async (clients) => clients.close()));
  }
}

const ATTEMPTS = 5;
const DEADLOCKS: ReadonlySet<string> = new Set(["40P01", "40001"]);
