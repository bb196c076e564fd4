import { codeOf, HandoverError, reasonOf } from "../errors.js";
import type { AmbiguousError } from "../hosts/host-outbox.js";
import { deferred } from "../util/deferred.js";

/** The members of a `Pool` of `pg` 8 that are used. */
export interface PoolLike {
  connect(connected: (error: Error | undefined, client: ClientLike | undefined) => void): void;
  end?(): Promise<void>;
}

/** The members of its clients. */
export interface ClientLike {
  query(question: { text: string; values?: readonly unknown[]; query_timeout?: number }): Promise<ResultLike>;
  on(event: "notification", listener: (message: NotificationLike) => void): unknown;
  on(event: "error" | "end", listener: (error?: Error) => void): unknown;
  removeAllListeners?(event: string): unknown;
  release(destroy?: Error | boolean): void;
  /** Of the process of the database that it is connected to. */
  readonly processID?: number | null;
}

export interface NotificationLike {
  readonly channel: string;
  readonly payload?: string;
  /** Of the process of the database that has it from its client. */
  readonly processId?: number;
}

export interface ResultLike {
  readonly rows: readonly Record<string, unknown>[];
  readonly rowCount: number | null;
}

/** The connections to a database: those of a pool, and one that stays, for the beats and what the database tells. */
export class Connections {
  readonly #open: () => Promise<PoolLike>;
  readonly #isOwn: boolean;
  readonly #timeout: number;
  readonly #listening: { readonly channel: string; readonly heard: (payload: string) => void } | undefined;
  #pool: Promise<PoolLike> | undefined;
  #kept: Promise<ClientLike> | undefined;
  #asking: Promise<unknown> = Promise.resolve();
  #isClosed = false;
  #hasListened = false;
  /** Clients that were used before. */
  readonly #known = new WeakSet<ClientLike>();
  readonly #discarded = new WeakSet<ClientLike>();

  /**
   * @param open makes the pool, or gives the program's
   * @param isOwn whether it is ended here
   * @param timeout for one answer, in ms
   * @param listening undefined where the database cannot tell, as behind a pooler of transactions. `heard` is called with
   *   an empty payload after each new connection but the first: what was told before is lost
   */
  constructor(
    open: () => Promise<PoolLike>,
    isOwn: boolean,
    timeout: number,
    listening: { readonly channel: string; readonly heard: (payload: string) => void } | undefined,
  ) {
    this.#open = open;
    this.#isOwn = isOwn;
    this.#timeout = timeout;
    this.#listening = listening;
  }

  /**
   * One statement, on a connection of the pool.
   *
   * @param bytes that are sent with it: it has more time
   */
  async query(text: string, values: readonly unknown[] = [], bytes = 0): Promise<ResultLike> {
    for (let attempt = 1; ; attempt++) {
      const client = await this.#connect();
      try {
        const result = await this.#ask(client, text, values, bytes);
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
    // One after the other: the client would queue them itself, and count the wait as part of the answer's time.
    const asking = this.#asking.then(async () => this.#queryKept(text, values));
    this.#asking = asking.catch(() => {});
    return asking;
  }

  async #queryKept(text: string, values: readonly unknown[]): Promise<ResultLike> {
    const client = await this.#keep();
    try {
      return await this.#ask(client, text, values);
    } catch (error) {
      // What is asked next would wait behind the answer that is missing.
      if ((error as AmbiguousError).isAmbiguous) await this.#forget(client);
      throw error;
    }
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    const kept = this.#kept;
    this.#kept = undefined;
    await kept?.then(
      (client) => this.#discard(client),
      () => {},
    );
    if (this.#isOwn) await (await this.#pool?.catch(() => undefined))?.end?.();
  }

  #discard(client: ClientLike): void {
    if (this.#discarded.has(client)) return;
    this.#discarded.add(client);
    client.release(true);
  }

  /** Resolves with whether it was the one that stays: its error and its end are told one after the other. */
  async #forget(client: ClientLike): Promise<boolean> {
    const keeping = this.#kept;
    const current = await keeping?.catch(() => undefined);
    if (current !== client || this.#kept !== keeping) return false;
    this.#kept = undefined;
    this.#discard(client);
    return true;
  }

  async #keep(): Promise<ClientLike> {
    const keeping = (this.#kept ??= this.#connectKept());
    const forget = (): void => {
      if (this.#kept === keeping) this.#kept = undefined;
    };
    keeping.catch(forget);
    return keeping;
  }

  async #connectKept(): Promise<ClientLike> {
    const client = await this.#connect();
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
      await this.#ask(client, `listen ${channel}`, []);
    } catch (error) {
      this.#discard(client);
      throw error;
    }
    if (this.#hasListened) heard!("");
    this.#hasListened = true;
    return client;
  }

  async #connect(): Promise<ClientLike> {
    if (this.#isClosed) throw away("it is closed", false);
    this.#pool ??= this.#open();
    const pool = this.#pool;
    pool.catch(() => {
      if (this.#pool === pool) this.#pool = undefined;
    });
    const late = deferred<never>();
    const timer = setTimeout(
      () => late.reject(away(`no connection in ${this.#timeout} ms`, false)),
      this.#timeout,
    );
    const connecting = pool.then(async (one) => this.#connectTo(one));
    try {
      return await Promise.race([connecting, late.promise]);
    } catch (error) {
      void connecting.then((client) => client.release()).catch(() => {});
      throw error instanceof HandoverError ? error : away(reasonOf(error), false, error);
    } finally {
      clearTimeout(timer);
    }
  }

  async #connectTo(pool: PoolLike): Promise<ClientLike> {
    return new Promise((resolve, reject) =>
      pool.connect((error, client) => {
        if (client === undefined) return reject(error!);
        // The error of a connection that is in use would end the process; its statement fails with it. A database that is
        // killed sends it together with the answer for which the pool has waited: a promise would resolve too late.
        if (!this.#known.has(client)) client.on("error", () => {});
        this.#known.add(client);
        resolve(client);
      }),
    );
  }

  async #ask(client: ClientLike, text: string, values: readonly unknown[], bytes = 0): Promise<ResultLike> {
    const query_timeout = this.#timeout + Math.ceil(bytes / SLOWEST);
    try {
      return await client.query({ text, values, query_timeout });
    } catch (error) {
      // With a code of the server the statement was not done. Else the answer is missing.
      const isAnswered = /^[0-9A-Z]{5}$/.test(codeOf(error, "ERR_INTERNAL")) && !isEnd(error);
      throw away(reasonOf(error), !isAnswered, error);
    }
  }
}

/** Bytes per ms. */
const SLOWEST = 2_048;

const ATTEMPTS = 5;
const DEADLOCKS: ReadonlySet<string> = new Set(["40P01", "40001"]);

/** Codes with which the server ends a connection, perhaps after it has done the statement. */
function isEnd(error: unknown): boolean {
  return /^(?:57P0|08)/.test(codeOf(error, "ERR_INTERNAL"));
}

/** @param isAmbiguous whether the statement may have been done */
function away(reason: string, isAmbiguous: boolean, cause?: unknown): HandoverError & AmbiguousError {
  const error = new HandoverError("ERR_EXCHANGE", `PostgreSQL cannot be asked: ${reason}`, { cause });
  return Object.assign(error, { isAmbiguous });
}
