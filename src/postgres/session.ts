import { HandoverError } from "../errors.js";
import type { EngineProblem } from "../exchange/hosts.js";
import type { EngineInspection, Wake } from "../hosts/engine.js";
import type { ResultLike } from "./pool-clients.js";
import { Connections } from "./connections.js";
import type { Database } from "./database.js";
import { channelOf } from "./names.js";
import { SCHEMA_VERSION } from "./schema.js";
import { STATEMENTS } from "./statements.js";

/** The options of `postgres()`, read. */
export interface PostgresSettings extends Database {
  readonly service: string;
  readonly lease: number;
  readonly listen: boolean;
  readonly maxBody: number;
  /** Makes the schema; undefined if that is not wished. */
  readonly migrate: ((connections: Connections) => Promise<void>) | undefined;
}

/** The database from the time it is opened until it is closed. */
export class Session {
  readonly channel: string;
  readonly #settings: PostgresSettings;
  #connections: Connections | undefined;

  constructor(settings: PostgresSettings) {
    this.#settings = settings;
    this.channel = channelOf(settings.service);
  }

  /** Connects, and requires the schema. `wake` hears what the database tells the seat. */
  async open(seat: () => string, wake: (what: Wake) => void): Promise<void> {
    const { open, isOwn, listen, lease, migrate } = this.#settings;
    const heard = (payload: string): void => {
      if (payload === "") for (const what of ["seat", "offer", "role", "own"] as const) wake(what);
      else if (payload.startsWith(seat())) wake(ownWake(payload));
      else if (WAKES.has(payload)) wake(payload as Wake);
    };
    const timeout = Math.min(LONGEST_ANSWER, Math.floor(lease / 3));
    const connections = new Connections(
      open,
      isOwn,
      timeout,
      listen ? { channel: this.channel, heard } : undefined,
    );
    this.#connections = connections;
    try {
      await migrate?.(connections);
      await this.#requireSchema(connections);
    } catch (error) {
      this.#connections = undefined;
      await connections.close().catch(() => {});
      throw error;
    }
  }

  async close(): Promise<void> {
    const connections = this.#connections;
    this.#connections = undefined;
    await connections?.close();
  }

  /** What is asked from now on goes over new connections. */
  reconnect(): void {
    this.#connections?.reconnect();
  }

  async query(text: string, values: readonly unknown[], bytes = 0): ReturnType<Connections["query"]> {
    return this.#opened.query(text, values, bytes);
  }

  /** On the connection that stays: see {@link Connections.queryKept}. */
  async kept(text: string, values: readonly unknown[]): ReturnType<Connections["query"]> {
    return this.#opened.queryKept(text, values);
  }

  get #opened(): Connections {
    if (this.#connections !== undefined) return this.#connections;
    throw new HandoverError("ERR_EXCHANGE", "PostgreSQL cannot be asked: it is not open");
  }

  /** What the database says of itself, and of its schema. On the connection that stays: another one may not be had in time. */
  async inspect(): Promise<EngineInspection> {
    const { rows } = await this.kept(STATEMENTS.server, []);
    const { version, number } = rows[0]!;
    const schema = await schemaVersion(this.kept(STATEMENTS.version, []));
    const problems: EngineProblem[] = [];
    if (Number(number) < LEAST_SERVER * 10_000)
      problems.push({
        check: "engine",
        what: `PostgreSQL ${String(version)} is too old`,
        why: `handover is tested with version ${LEAST_SERVER} and later`,
        fix: "upgrade the database",
      });
    if (schema < SCHEMA_VERSION)
      problems.push({
        check: "schema",
        what: `the database ${describeSchema(schema)}`,
        why: `the next process needs version ${SCHEMA_VERSION}, and cannot start without it`,
        fix: "run handover migrate",
      });
    return {
      server: `PostgreSQL ${String(version)}`,
      schema: `version ${schema} of the schema`,
      problems,
    };
  }

  async #requireSchema(connections: Connections): Promise<void> {
    const version = await schemaVersion(connections.query(STATEMENTS.version));
    if (version >= SCHEMA_VERSION) return;
    const message = `PostgreSQL cannot be used: it ${describeSchema(version)}, and needs version ${SCHEMA_VERSION}; run "handover migrate"`;
    throw new HandoverError("ERR_EXCHANGE", message);
  }
}

/** 0 if there is none. */
async function schemaVersion(asked: Promise<ResultLike>): Promise<number> {
  const { rows } = await asked.catch((error: unknown) => {
    const { code } = ((error as Error).cause ?? {}) as { code?: string };
    // A table, or a schema, that is not there.
    if (code !== "42P01" && code !== "3F000") throw error;
    return { rows: [] };
  });
  return Number(rows[0]?.["version"] ?? 0);
}

/** Of what was told to this seat alone: `SEAT`, or `SEAT TAKER NUMBER,NUMBER,…` of parcels that were taken. */
function ownWake(payload: string): Wake {
  const [, by, numbers] = payload.split(" ");
  if (by === undefined || numbers === undefined) return "own";
  return { by, taken: numbers.split(",").map(Number) };
}

function describeSchema(version: number): string {
  return version === 0 ? "has no schema of handover" : `has version ${version} of the schema`;
}

/** The first version that is supported. */
const LEAST_SERVER = 12;

const WAKES: ReadonlySet<string> = new Set(["offer", "seat", "role"] satisfies Wake[]);

/** ms */
const LONGEST_ANSWER = 5_000;
