/**
 * `handover/postgres`: slots, units and roles of one service on several hosts, over a PostgreSQL database.
 *
 * @module
 */
import type { HostExchange } from "../exchange/hosts.js";
import { EngineHosts } from "../hosts/engine-hosts.js";
import { readService } from "../hosts/service-name.js";
import { atCaller } from "../platform/at-caller.js";
import { integer, milliseconds, refuseUnknown, wrongOption } from "../util/validation.js";
import type { Connections } from "./connections.js";
import { readDatabase, type DatabaseOptions } from "./database.js";
import { migrationOf } from "./migrate.js";
import { PostgresEngine } from "./postgres-engine.js";

export type { HostExchange } from "../exchange/hosts.js";
export type { ClientLike, PoolLike, ResultLike } from "./pool-clients.js";
export type { DatabaseOptions } from "./database.js";
export { migrate, migrationText } from "./migrate.js";

/** Options of {@link postgres}. One of `pool`, `client` and `url` says which database. */
export interface PostgresOptions extends DatabaseOptions {
  /** The name of the service: processes with the same name share units, slots and roles. */
  service: string;
  /**
   * ms after which others may run what a process has that does not answer. It stops itself after two thirds of it. Default
   * 15 000; at least 1 000. The same for all hosts.
   */
  lease?: number;
  /** Whether the database tells of changes, by LISTEN; else it is asked four times a second. Default true. */
  listen?: boolean;
  /** Bytes of the largest state that moves. Default 16 MiB. */
  maxBody?: number;
  /** Makes the schema at the start, or updates it. Default false: the command `handover migrate` does. */
  migrate?: boolean;
}

/**
 * The option `exchange` of an `Upgrader`. Nothing is connected before `ready()`.
 *
 * @throws {HandoverError} `ERR_OPTION`
 */
export function postgres(options: PostgresOptions): HostExchange {
  return atCaller({ postgres }, "postgres", () => {
    refuseUnknown("postgres()", options, KNOWN);
    const { lease = 15_000, listen = true, maxBody = 16 * 1024 * 1024, migrate = false } = options;
    for (const [name, value] of Object.entries({ listen, migrate }))
      if (typeof value !== "boolean") throw wrongOption(name, "true or false", value);
    const settings = {
      service: readService(options.service),
      lease: milliseconds("lease", lease, SHORTEST_LEASE),
      listen,
      maxBody: integer("maxBody", maxBody, 1, LARGEST_BODY),
      migrate: migrate ? async (connections: Connections) => migrationOf(connections) : undefined,
      ...readDatabase(options),
    };
    return {
      engine: "postgres",
      join: (host) => new EngineHosts(new PostgresEngine(settings), host),
    };
  });
}

const KNOWN = [
  "service",
  "pool",
  "client",
  "url",
  "lease",
  "listen",
  "maxBody",
  "migrate",
] satisfies (keyof PostgresOptions)[];

/** ms */
const SHORTEST_LEASE = 1_000;

/** A value of PostgreSQL takes 1 GB at most, and is sent as hexadecimal digits in places. */
const LARGEST_BODY = 256 * 1024 * 1024;
