import { HandoverError, reasonOf } from "../errors.js";
import { functionsOf, text, WrongOption, wrongOption } from "../util/validation.js";
import type { PoolLike } from "./pool-clients.js";

/** Which database. One of them is given. */
export interface DatabaseOptions {
  /** A `Pool` of `pg` 8, of which one connection is kept. It is not ended here. */
  pool?: PoolLike;
  /** The options of a `Client` of `pg` 8. */
  client?: object;
  /** A connection string. */
  url?: string;
}

/** How the database is reached. */
export interface Database {
  /**
   * Makes the pool, or gives the program's. A pool that is made ends a connection on which the database says nothing for `timeout`
   * ms: it could not be ended before, and would keep the process alive.
   */
  readonly open: (timeout: number) => Promise<PoolLike>;
  /** Whether the pool is made. */
  readonly isOwn: boolean;
}

/** @throws {HandoverError} `ERR_OPTION` */
export function readDatabase({ pool, client, url }: DatabaseOptions): Database {
  const given = Object.entries({ pool, client, url }).filter(([, value]) => value !== undefined);
  if (given.length !== 1)
    throw new HandoverError(
      "ERR_OPTION",
      given.length === 0
        ? 'postgres() needs one of the options "pool", "client" and "url", and all are undefined'
        : `postgres() takes one of the options "pool", "client" and "url", not ${given.length}`,
    );
  if (pool !== undefined) {
    functionsOf(pool, ["connect"], []);
    return { open: async () => pool, isOwn: false };
  }
  if (client !== undefined && (typeof client !== "object" || client === null))
    throw wrongOption("client", "an object of options", client);
  if (url !== undefined && !isConnectionString(text("url", url)!))
    // It is not repeated, as it may have a password.
    throw new WrongOption("url", "must begin with postgres:// or postgresql://");
  const own = client ?? { connectionString: url };
  return {
    isOwn: true,
    open: async (connectionTimeoutMillis) => {
      const settings = { max: OWN_CONNECTIONS, application_name: "handover", connectionTimeoutMillis };
      const made = new (await loadPool())({ ...settings, ...own });
      // An idle connection that ends emits an error: the next question makes another one.
      made.on("error", () => {});
      return made;
    },
  };
}

/** Whether `pg` finds a database by this text: a URL, or the path of a Unix socket. It would take any other for the name of a host. */
export function isConnectionString(url: string): boolean {
  return /^(?:postgres(?:ql)?:\/\/|socket:|\/)/.test(url);
}

async function loadPool(): Promise<
  new (options: object) => PoolLike & { on(event: string, run: () => void): void }
> {
  try {
    // Not by a constant: the package is optional, and has no types of its own.
    const name = "pg";
    const { default: pg } = (await import(name)) as {
      default: { Pool: Awaited<ReturnType<typeof loadPool>> };
    };
    return pg.Pool;
  } catch (cause) {
    const message = `PostgreSQL cannot be used: the package pg cannot be loaded: ${reasonOf(cause)}`;
    throw new HandoverError("ERR_EXCHANGE", message, { cause });
  }
}

/** Connections of one pool. The one that is kept has a pool of its own. */
const OWN_CONNECTIONS = 4;
