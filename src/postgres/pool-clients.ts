import { codeOf, HandoverError, reasonOf } from "../errors.js";
import type { AmbiguousError } from "../hosts/ambiguous-error.js";
import { deferred } from "../util/deferred.js";

/** The members of a `Pool` of `pg` 8 that are used. */
export interface PoolLike {
  connect(connected: (error: Error | undefined, client: ClientLike | undefined) => void): void;
  end?(): Promise<void>;
  on?(event: "connect", listener: (client: ClientLike) => void): unknown;
  removeListener?(event: "connect", listener: (client: ClientLike) => void): unknown;
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

/** The clients of one pool. Each is one connection. */
export class PoolClients {
  readonly #open: (timeout: number) => Promise<PoolLike>;
  readonly #isOwn: boolean;
  readonly #timeout: number;
  #pool: Promise<PoolLike> | undefined;
  #isClosed = false;
  /** When the database was last heard on the connections that were used before, on the clock of `performance.now()`. */
  readonly #heard = new WeakMap<ClientLike, number>();
  /** PoolClients whose errors are heard. */
  readonly #known = new WeakSet<ClientLike>();
  readonly #discarded = new WeakSet<ClientLike>();
  /** What was not heard since may be half open. */
  #suspectedAt = -Infinity;
  /** Whether the pool tells of each connection that it makes. */
  #isTold = false;
  readonly #onConnect = (client: ClientLike): void => void this.#heard.set(client, performance.now());

  /**
   * @param open makes the pool, or gives the program's
   * @param isOwn whether it is ended here
   * @param timeout for one answer, in ms
   */
  constructor(open: (timeout: number) => Promise<PoolLike>, isOwn: boolean, timeout: number) {
    this.#open = open;
    this.#isOwn = isOwn;
    this.#timeout = timeout;
  }

  /**
   * A client for one statement after the other, to be released or discarded by the caller.
   *
   * @throws {HandoverError} `ERR_EXCHANGE`
   */
  async connect(): Promise<ClientLike> {
    for (;;) {
      const client = await this.#connect();
      if (!this.#isSuspect(client)) return client;
      this.discard(client);
    }
  }

  /**
   * Asks one statement.
   *
   * @param bytes that are sent with it: it has more time
   * @throws {HandoverError} `ERR_EXCHANGE`, an {@link AmbiguousError}
   */
  async ask(client: ClientLike, text: string, values: readonly unknown[], bytes = 0): Promise<ResultLike> {
    const query_timeout = this.#timeout + Math.ceil(bytes / SLOWEST);
    const begin = performance.now();
    try {
      const result = await client.query({ text, values, query_timeout });
      this.#heard.set(client, performance.now());
      return result;
    } catch (error) {
      // With a code of the server the statement was not done. Else the answer is missing.
      const isAnswered = /^[0-9A-Z]{5}$/.test(codeOf(error, "ERR_INTERNAL")) && !isEnd(error);
      if (!isAnswered && performance.now() - begin >= query_timeout) this.suspect();
      throw away(reasonOf(error), !isAnswered, error);
    }
  }

  /** One connection does not answer: those on which nothing is heard from now on are not used again. */
  suspect(): void {
    this.#suspectedAt = performance.now();
  }

  discard(client: ClientLike): void {
    if (this.#discarded.has(client)) return;
    this.#discarded.add(client);
    client.release(true);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    const pool = await this.#pool?.catch(() => undefined);
    pool?.removeListener?.("connect", this.#onConnect);
    if (this.#isOwn) await pool?.end?.();
  }

  #isSuspect(client: ClientLike): boolean {
    // A pool of the program may have connections that were never used here.
    const heard = this.#heard.get(client) ?? (this.#isTold ? -Infinity : Infinity);
    return heard < this.#suspectedAt;
  }

  async #openPool(): Promise<PoolLike> {
    const pool = await this.#open(this.#timeout);
    this.#isTold = pool.on !== undefined;
    pool.on?.("connect", this.#onConnect);
    return pool;
  }

  async #connect(): Promise<ClientLike> {
    if (this.#isClosed) throw away("it is closed", false);
    this.#pool ??= this.#openPool();
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
}

/** Bytes per ms. */
const SLOWEST = 2_048;

/** Codes with which the server ends a connection, perhaps after it has done the statement. */
function isEnd(error: unknown): boolean {
  return /^(?:57P0|08)/.test(codeOf(error, "ERR_INTERNAL"));
}

/** @param isAmbiguous whether the statement may have been done */
function away(reason: string, isAmbiguous: boolean, cause?: unknown): HandoverError & AmbiguousError {
  const error = new HandoverError("ERR_EXCHANGE", `PostgreSQL cannot be asked: ${reason}`, { cause });
  return Object.assign(error, { isAmbiguous });
}
