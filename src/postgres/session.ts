import { HandoverError } from "../errors.js";
import type { Wake } from "../hosts/engine.js";
import { Connections, type PoolLike } from "./connections.js";
import { channelOf } from "./names.js";
import { SCHEMA_VERSION } from "./schema.js";
import { STATEMENTS } from "./statements.js";

/** The options of `postgres()`, read. */
export interface PostgresSettings {
  readonly service: string;
  readonly lease: number;
  readonly listen: boolean;
  readonly maxBody: number;
  readonly open: () => Promise<PoolLike>;
  /** Whether the pool that `open` gives is this engine's. */
  readonly isOwn: boolean;
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
      else if (payload === seat()) wake("own");
      else if (WAKES.has(payload)) wake(payload as Wake);
    };
    const timeout = Math.min(LONGEST_ANSWER, lease / 3);
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

  async #requireSchema(connections: Connections): Promise<void> {
    const { rows } = await connections.query(STATEMENTS.version).catch((error: unknown) => {
      const { code } = ((error as Error).cause ?? {}) as { code?: string };
      // A table, or a schema, that is not there.
      if (code !== "42P01" && code !== "3F000") throw error;
      return { rows: [] };
    });
    const version = Number(rows[0]?.["version"] ?? 0);
    if (version >= SCHEMA_VERSION) return;
    const found = version === 0 ? "has no schema of handover" : `has version ${version} of the schema`;
    const message = `PostgreSQL cannot be used: it ${found}, and needs version ${SCHEMA_VERSION}; run "handover migrate"`;
    throw new HandoverError("ERR_EXCHANGE", message);
  }
}

const WAKES: ReadonlySet<string> = new Set(["offer", "seat", "role"] satisfies Wake[]);

/** ms */
const LONGEST_ANSWER = 5_000;
