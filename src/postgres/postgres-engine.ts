import { hostname } from "node:os";
import { HandoverError, type UnitOwner } from "../errors.js";
import type { Ownership } from "../exchange/directory.js";
import type { Peer, Refusal } from "../exchange/parcel.js";
import type {
  Claimed,
  Draft,
  Engine,
  OfferKey,
  OfferState,
  SeatRow,
  StepResult,
  Wake,
  Wish,
} from "../hosts/engine.js";
import { withoutInternals } from "../hosts/host-outbox.js";
import { Connections, type PoolLike } from "./connections.js";
import { channelOf, fromWholeName, HASHED, storedName, wholeName } from "./names.js";
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

type Row = Record<string, unknown>;

/** PostgreSQL, from version 12. */
export class PostgresEngine implements Engine {
  readonly name = "postgres";
  readonly service: string;
  readonly lease: number;
  readonly batch = 250;
  readonly window = 1_000;
  readonly maxBody: number;
  readonly wakes: boolean;
  readonly #settings: PostgresSettings;
  readonly #channel: string;
  #connections: Connections | undefined;
  /** What is known of seats, for what they offer. */
  readonly #known = new Map<string, Peer>();

  constructor(settings: PostgresSettings) {
    this.#settings = settings;
    this.service = settings.service;
    this.lease = settings.lease;
    this.maxBody = settings.maxBody;
    this.wakes = settings.listen;
    this.#channel = channelOf(settings.service);
  }

  topicOf(kind: string, label: string): string {
    return topicOf({ kind, label });
  }

  async open(seat: () => string, wake: (what: Wake) => void): Promise<void> {
    const { open, isOwn, listen, migrate } = this.#settings;
    const heard = (payload: string): void => {
      if (payload === "") for (const what of ["seat", "offer", "role", "own"] as const) wake(what);
      else if (payload === seat()) wake("own");
      else if (WAKES.has(payload)) wake(payload as Wake);
    };
    const timeout = Math.min(LONGEST_ANSWER, this.lease / 3);
    const connections = new Connections(
      open,
      isOwn,
      timeout,
      listen ? { channel: this.#channel, heard } : undefined,
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

  async enter(seat: SeatRow): Promise<{ started: number; others: SeatRow[] }> {
    const { rows } = await this.#kept(STATEMENTS.enter, this.#seatValues(seat));
    return { started: Number(rows[0]!["started"]), others: await this.#others(seat.seat) };
  }

  async beat(seat: SeatRow, former?: string): Promise<SeatRow[] | undefined> {
    const holders = former === "" ? null : [seat.holder, ...(former === undefined ? [] : [former])];
    const { rows } = await this.#kept(STATEMENTS.beat, [...this.#seatValues(seat), holders]);
    return rows[0]!["beaten"] === 1 ? this.#others(seat.seat) : undefined;
  }

  async renew(seat: string): Promise<boolean> {
    return (await this.#kept(STATEMENTS.renew, [seat])).rowCount === 1;
  }

  async leave(seat: string): Promise<void> {
    await this.#kept(STATEMENTS.leave, [seat, this.#channel]);
  }

  async sweep(): Promise<void> {
    await this.#query(STATEMENTS.sweep, [this.service, this.#channel]);
  }

  async own(
    seat: string,
    kind: string,
    ids: readonly string[],
    from?: string,
  ): Promise<(number | UnitOwner)[]> {
    const results = new Map<string, number | UnitOwner>();
    // Always in one order: two processes that ask for the same units would wait for each other.
    let left = [...new Set(ids)].toSorted();
    for (let attempt = 0; left.length > 0 && attempt < ATTEMPTS; attempt++) {
      const byStored = new Map(left.map((id) => [storedName(id), id]));
      const values = [
        this.service,
        storedName(kind),
        [...byStored.keys()],
        [...byStored.values()].map(wholeName),
      ];
      const { rows } = await this.#query(STATEMENTS.own, [...values, seat, from ?? null]);
      for (const row of rows) results.set(byStored.get(String(row["id"]))!, Number(row["fence"]));
      left = left.filter((id) => !results.has(id));
      if (left.length === 0) break;
      for (const [id, owner] of await this.#owners(kind, left)) results.set(id, owner);
      // One that has no owner now was given up between the two questions.
      left = left.filter((id) => !results.has(id));
    }
    return ids.map((id) => {
      const result = results.get(id);
      if (result !== undefined) return result;
      throw new HandoverError("ERR_EXCHANGE", `the owner of the unit "${id}" changes all the time`);
    });
  }

  async disown(seat: string, kind: string, units: readonly Ownership[]): Promise<void> {
    const ids = units.map(({ id }) => storedName(id));
    const fences = units.map(({ fence }) => fence);
    await this.#query(STATEMENTS.disown, [this.service, storedName(kind), ids, fences, seat]);
  }

  async where(kind: string, id: string): Promise<UnitOwner | undefined> {
    return (await this.#owners(kind, [id])).get(id);
  }

  async takeOrphans(seat: string, kind: string, limit: number): Promise<Ownership[]> {
    const { rows } = await this.#query(STATEMENTS.orphans, [this.service, storedName(kind), seat, limit]);
    return rows.map((row) => ({ id: fromWholeName(String(row["name"])), fence: Number(row["fence"]) }));
  }

  async offer(seat: string, drafts: readonly Draft[]): Promise<(number | undefined)[]> {
    const sizes = drafts.map(({ parcel }) => parcel.body.length);
    let start = 1;
    const starts = sizes.map((size) => (start += size) - size);
    const column = (of: (draft: Draft) => unknown): unknown[] => drafts.map(of);
    const { rows } = await this.#query(
      STATEMENTS.offer,
      [
        this.service,
        seat,
        this.#channel,
        column(({ key }) => key),
        column(({ parcel }) => topicOf(parcel)),
        column(({ parcel }) => parcel.kind),
        column(({ parcel }) => wholeName(parcel.label)),
        column(({ parcel }) => unitOf(parcel)),
        column(({ parcel }) => wholeName(parcel.id)),
        column(({ fence }) => fence),
        column(({ parcel }) => parcel.version),
        column(({ parcel }) => parcel.codec),
        // In an array each would be sent as digits, which blocks the event loop.
        Buffer.concat(drafts.map(({ parcel }) => parcel.body)),
        column(({ parcel }) => parcel.ttl ?? null),
        drafts[0]!.key,
        starts,
        sizes,
      ],
      drafts.reduce((bytes, { parcel }) => bytes + parcel.body.length, 0),
    );
    return numbersOf(drafts, rows);
  }

  async findOffers(seat: string, drafts: readonly Draft[]): Promise<(number | undefined)[]> {
    await this.#query(STATEMENTS.void, [seat, drafts[0]!.key]);
    const { rows } = await this.#query(STATEMENTS.findOffers, [seat, drafts.map(({ key }) => key)]);
    return numbersOf(drafts, rows);
  }

  async look(seat: string, offers: readonly OfferKey[]): Promise<OfferState[]> {
    const numbers = offers.map(({ number }) => number);
    const topics = offers.map((one) => topicOf(one));
    const units = offers.map((one) => unitOf(one));
    const { rows } = await this.#query(STATEMENTS.look, [this.service, numbers, topics, units]);
    const states = rows.map((row) => this.#offerState(row));
    const kept = rows
      .filter(({ gone, claimant }) => gone === true && claimant !== null)
      .map(({ seq }) => seq);
    if (kept.length > 0) await this.#query(STATEMENTS.forget, [seat, kept]).catch(() => {});
    return states;
  }

  async withdraw(seat: string, numbers: readonly number[]): Promise<number[]> {
    const { rows } = await this.#query(STATEMENTS.withdraw, [seat, numbers, this.#channel]);
    return rows.map(({ seq }) => Number(seq));
  }

  async step(seat: string, settle: readonly number[], { topics, minAge }: Wish): Promise<StepResult> {
    const { rows } = await this.#query(
      STATEMENTS.step,
      [this.service, seat, this.#channel, settle, [...topics.keys()], [...topics.values()], minAge],
      this.maxBody,
    );
    const numbers = (what: string): number[] =>
      rows.filter((row) => row["what"] === what).map(({ seq }) => Number(seq));
    const claimed = rows.filter((row) => row["what"] === "claimed").map((row) => this.#claimed(row));
    return { settled: numbers("settled"), claimed, withdrawn: numbers("withdrawn") };
  }

  async claims(seat: string): Promise<Claimed[]> {
    const { rows } = await this.#query(STATEMENTS.claims, [seat], this.maxBody);
    return rows.map((row) => this.#claimed(row));
  }

  async refuse(
    seat: string,
    refused: readonly { number: number; refusal: Refusal | undefined }[],
  ): Promise<void> {
    const numbers = refused.map(({ number }) => number);
    const refusals = refused.map(({ refusal }) => (refusal === undefined ? null : JSON.stringify(refusal)));
    await this.#query(STATEMENTS.refuse, [seat, numbers, refusals, this.#channel]);
  }

  async acquire(seat: string, role: string): Promise<number | undefined> {
    const { rows } = await this.#query(STATEMENTS.acquire, [this.service, storedName(role), seat]);
    return rows.length === 0 ? undefined : Number(rows[0]!["fence"]);
  }

  async release(seat: string, role: string, fence: number): Promise<void> {
    await this.#query(STATEMENTS.release, [this.service, storedName(role), seat, fence, this.#channel]);
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

  async #query(text: string, values: readonly unknown[], bytes = 0): ReturnType<Connections["query"]> {
    return this.#opened.query(text, values, bytes);
  }

  async #kept(text: string, values: readonly unknown[]): ReturnType<Connections["query"]> {
    return this.#opened.queryKept(text, values);
  }

  get #opened(): Connections {
    if (this.#connections !== undefined) return this.#connections;
    throw new HandoverError("ERR_EXCHANGE", "PostgreSQL cannot be asked: it is not open");
  }

  #seatValues({ holder, draining, topics, fence, seat, started: _, ...about }: SeatRow): unknown[] {
    const peer = JSON.stringify({ host: hostname(), ...about });
    return [seat, this.service, holder, peer, topics, draining, fence, this.lease, this.#channel];
  }

  async #others(seat: string): Promise<SeatRow[]> {
    const { rows } = await this.#kept(STATEMENTS.others, [this.service, seat]);
    return rows.map((row) => this.#seatRow(row));
  }

  #seatRow(row: Row): SeatRow {
    const about = row["about"] as Peer;
    const seat = String(row["seat"]);
    const { generation, pid, ...rest } = about;
    const peer = { generation, pid, ...rest, seat };
    if (this.#known.size > MOST_KNOWN) this.#known.clear();
    this.#known.set(seat, withoutInternals(peer));
    return {
      ...peer,
      holder: String(row["holder"]),
      draining: row["draining"] === true,
      topics: row["topics"] as string[],
      fence: Number(row["fence"]),
      started: Number(row["started"]),
    };
  }

  async #owners(kind: string, ids: readonly string[]): Promise<Map<string, UnitOwner>> {
    const byStored = new Map(ids.map((id) => [storedName(id), id]));
    const values = [this.service, storedName(kind), [...byStored.keys()]];
    const { rows } = await this.#query(STATEMENTS.owners, values);
    return new Map(
      rows.map((row) => [byStored.get(String(row["id"]))!, withoutInternals(this.#seatRow(row))]),
    );
  }

  #offerState(row: Row): OfferState {
    const isGone = row["gone"] === true;
    const claimant = row["claimant"] as string | null;
    return {
      number: Number(row["seq"]),
      how: isGone ? "gone" : claimant === null ? "open" : "claimed",
      by: (row["by"] as string | null) ?? claimant ?? undefined,
      isWithdrawn: row["withdrawn"] === true,
      deaths: Number(row["deaths"] ?? 0),
      refusedBy: (row["refused_by"] as string[] | null) ?? [],
      refusal: (row["refusal"] as Refusal | null) ?? undefined,
    };
  }

  #claimed(row: Row): Claimed {
    const body = row["body"] as Buffer;
    const seat = String(row["seat"]);
    return {
      number: Number(row["seq"]),
      parcel: {
        kind: String(row["kind"]),
        label: fromWholeName(String(row["label"])),
        id: fromWholeName(String(row["id"])),
        version: Number(row["version"]),
        codec: String(row["codec"]),
        body,
        fds: [],
      },
      fence: Number(row["fence"]),
      seat,
      from: this.#known.get(seat) ?? { generation: 0, pid: 0, seat },
      age: Number(row["age"]),
      isWithdrawn: row["withdrawn"] === true,
    };
  }
}

/** Of a unit its kind, as the directory has it, which is the label of its parcels; of others also the kind of the parcel. */
function topicOf({ kind, label }: { kind: string; label: string }): string {
  return kind === UNIT ? storedName(label) : `${HASHED}${kind}${HASHED}${storedName(label)}`;
}

function unitOf({ kind, id }: { kind: string; id: string }): string | null {
  return kind === UNIT ? storedName(id) : null;
}

function numbersOf(drafts: readonly Draft[], rows: readonly Row[]): (number | undefined)[] {
  const numbers = new Map(rows.map(({ key, seq }) => [key, Number(seq)]));
  return drafts.map(({ key }) => numbers.get(key));
}

/** The kind of the parcels that carry units: the directory has an owner for each. */
const UNIT = "unit";

const WAKES: ReadonlySet<string> = new Set(["offer", "seat", "role"] satisfies Wake[]);

/** How often a unit is asked for whose owner changes. */
const ATTEMPTS = 10;

/** Seats. */
const MOST_KNOWN = 1_000;

/** ms */
const LONGEST_ANSWER = 5_000;
