import { hostname } from "node:os";
import type { UnitOwner } from "../errors.js";
import type { Ownership } from "../exchange/directory.js";
import type {
  Claimed,
  Draft,
  Engine,
  EngineInspection,
  FoundOffer,
  OfferKey,
  OfferState,
  Orphan,
  Refused,
  Returned,
  SeatRow,
  StepResult,
  Wake,
  Wish,
} from "../hosts/engine.js";
import { askForUnits } from "../hosts/ask-for-units.js";
import { withoutInternals } from "../hosts/host-outbox.js";
import { fromWholeName, storedName, topicOf, unitOf, wholeName } from "../hosts/names.js";
import { type Row, RowReader } from "./rows.js";
import { type PostgresSettings, Session } from "./session.js";
import { STATEMENTS } from "./statements.js";

/** PostgreSQL, from version 12. */
export class PostgresEngine implements Engine {
  readonly name = "postgres";
  readonly service: string;
  readonly lease: number;
  readonly batch = 500;
  readonly round = 500;
  readonly window = 1_000;
  readonly questionBytes = 4 * 1024 * 1024;
  readonly maxBody: number;
  readonly wakes: boolean;
  readonly #session: Session;
  readonly #rows = new RowReader();

  constructor(settings: PostgresSettings) {
    this.#session = new Session(settings);
    this.service = settings.service;
    this.lease = settings.lease;
    this.maxBody = settings.maxBody;
    this.wakes = settings.listen;
  }

  async open(seat: () => string, wake: (what: Wake) => void): Promise<void> {
    await this.#session.open(seat, wake);
  }

  async close(): Promise<void> {
    await this.#session.close();
  }

  reconnect(): void {
    this.#session.reconnect();
  }

  async inspect(): Promise<EngineInspection> {
    return this.#session.inspect();
  }

  async time(): Promise<number> {
    const { rows } = await this.#session.kept(STATEMENTS.time, []);
    return Number(rows[0]!["now"]);
  }

  async enter(seat: SeatRow): Promise<{ started: number; others: SeatRow[] }> {
    const { rows } = await this.#session.kept(STATEMENTS.enter, this.#seatValues(seat));
    return { started: Number(rows[0]!["started"]), others: await this.#others(seat.seat) };
  }

  async beat(seat: SeatRow, former?: string): Promise<SeatRow[] | undefined> {
    const holders = former === "" ? null : [seat.holder, ...(former === undefined ? [] : [former])];
    const { rows } = await this.#session.kept(STATEMENTS.beat, [...this.#seatValues(seat), holders]);
    return rows[0]!["beaten"] === 1 ? this.#others(seat.seat) : undefined;
  }

  async renew(seat: string): Promise<SeatRow[] | undefined> {
    const { rowCount } = await this.#session.kept(STATEMENTS.renew, [seat]);
    return rowCount === 1 ? this.#others(seat) : undefined;
  }

  async leave(seat: string): Promise<void> {
    await this.#session.kept(STATEMENTS.leave, [seat, this.#session.channel, this.service]);
  }

  async sweep(): Promise<void> {
    await this.#session.query(STATEMENTS.sweep, [this.service, this.#session.channel]);
  }

  async own(
    seat: string,
    kind: string,
    ids: readonly string[],
    from?: string,
  ): Promise<(number | UnitOwner)[]> {
    return askForUnits(ids, async (left, owners) => {
      // Always in one order: two processes that ask for the same units would wait for each other.
      const byStored = new Map(left.toSorted().map((id) => [storedName(id), id]));
      const values = [
        this.service,
        storedName(kind),
        [...byStored.keys()],
        [...byStored.values()].map(wholeName),
      ];
      const { rows } = await this.#session.query(STATEMENTS.own, [...values, seat, from ?? null]);
      for (const row of rows) owners.set(byStored.get(String(row["id"]))!, Number(row["fence"]));
      const others = left.filter((id) => !owners.has(id));
      if (others.length === 0) return;
      for (const [id, owner] of await this.#owners(kind, others)) owners.set(id, owner);
    });
  }

  async disown(seat: string, kind: string, units: readonly Ownership[]): Promise<void> {
    const ids = units.map(({ id }) => storedName(id));
    const fences = units.map(({ fence }) => fence);
    await this.#session.query(STATEMENTS.disown, [this.service, storedName(kind), ids, fences, seat]);
  }

  async where(kind: string, id: string): Promise<UnitOwner | undefined> {
    return (await this.#owners(kind, [id])).get(id);
  }

  async findOrphans(seat: string, kind: string, limit: number): Promise<Orphan[]> {
    const values = [this.service, storedName(kind), seat, limit];
    const { rows } = await this.#session.query(STATEMENTS.findOrphans, values);
    return rows.map((row) => ({ ...ownershipOf(row), owner: String(row["seat"]) }));
  }

  async takeOrphans(
    seat: string,
    kind: string,
    orphans: readonly Orphan[],
    isRepeated: boolean,
  ): Promise<Ownership[]> {
    // Always in one order: two processes that take the same units would wait for each other.
    const byStored = new Map(orphans.map((orphan) => [storedName(orphan.id), orphan]));
    const ids = [...byStored.keys()].toSorted();
    const owners = ids.map((id) => byStored.get(id)!.owner);
    const fences = ids.map((id) => byStored.get(id)!.fence);
    const units = [this.service, storedName(kind), seat, ids];
    const taken = await this.#session.query(STATEMENTS.takeOrphans, [...units, owners, fences]);
    // By now an earlier question is done, or finds the units changed.
    const { rows } = isRepeated ? await this.#session.query(STATEMENTS.owned, units) : taken;
    return rows.map(ownershipOf);
  }

  /** A new connection has nothing in its caches: the first statement takes long, and frozen units would wait for it. */
  async prepare(seat: string): Promise<void> {
    const values = [this.service, seat, this.#session.channel, "[]", Buffer.alloc(0), ""];
    await this.#session.query(STATEMENTS.offer, values);
  }

  async offer(seat: string, drafts: readonly Draft[]): Promise<(number | undefined)[]> {
    let bytes = 0;
    const offers = drafts.map(({ key, fence, parcel }) => {
      const { kind, label, id, version, codec, ttl, body } = parcel;
      const start = bytes + 1;
      bytes += body.length;
      const names = { kind, label: wholeName(label), id: wholeName(id) };
      const place = { key, topic: topicOf(parcel), unit: unitOf(parcel), ...names };
      return { ...place, fence, version, codec, ttl, start, size: body.length };
    });
    const { rows } = await this.#session.query(
      STATEMENTS.offer,
      [
        this.service,
        seat,
        this.#session.channel,
        JSON.stringify(offers),
        // In an array each would be sent as digits, which blocks the event loop.
        Buffer.concat(drafts.map(({ parcel }) => parcel.body)),
        drafts[0]!.key,
      ],
      bytes,
    );
    return numbersOf(drafts, rows);
  }

  async findOffers(seat: string, drafts: readonly Draft[]): Promise<FoundOffer[]> {
    await this.#session.query(STATEMENTS.void, [seat, drafts[0]!.key]);
    const keys = drafts.map(({ key }) => key);
    const topics = drafts.map(({ parcel }) => topicOf(parcel));
    const units = drafts.map(({ parcel }) => unitOf(parcel) ?? null);
    const { rows } = await this.#session.query(STATEMENTS.findOffers, [
      seat,
      this.service,
      keys,
      topics,
      units,
    ]);
    const found = new Map(rows.map((row) => [row["key"], foundOffer(row)]));
    return keys.map((key) => found.get(key));
  }

  async look(seat: string, offers: readonly OfferKey[]): Promise<OfferState[]> {
    const numbers = offers.map(({ number }) => number);
    const topics = offers.map((one) => topicOf(one));
    const units = offers.map((one) => unitOf(one) ?? null);
    const { rows } = await this.#session.query(STATEMENTS.look, [this.service, numbers, topics, units, seat]);
    const states = rows.map((row) => this.#rows.offerState(row));
    const kept = rows
      .filter(({ gone, claimant }) => gone === true && claimant !== null)
      .map(({ seq }) => seq);
    if (kept.length > 0) await this.#session.query(STATEMENTS.forget, [seat, kept]).catch(() => {});
    return states;
  }

  async withdraw(seat: string, numbers: readonly number[]): Promise<Returned[]> {
    const { rows } = await this.#session.query(STATEMENTS.withdraw, [
      this.service,
      seat,
      numbers,
      this.#session.channel,
    ]);
    return rows.map(({ seq, fence }) => ({ number: Number(seq), fence: Number(fence) }));
  }

  async step(seat: string, settle: readonly number[], { topics, minAge, except }: Wish): Promise<StepResult> {
    const wish = [[...topics.keys()], [...topics.values()], minAge, [...except]];
    const values = [this.service, seat, this.#session.channel, settle, ...wish];
    const { rows } = await this.#session.query(STATEMENTS.step, values, this.maxBody);
    const numbers = (what: string): number[] =>
      rows.filter((row) => row["what"] === what).map(({ seq }) => Number(seq));
    const claimed = rows.filter((row) => row["what"] === "claimed").map((row) => this.#rows.claimed(row));
    return { settled: numbers("settled"), claimed, withdrawn: numbers("withdrawn") };
  }

  async claims(seat: string): Promise<Claimed[]> {
    const { rows } = await this.#session.query(STATEMENTS.claims, [this.service, seat], this.maxBody);
    return rows.map((row) => this.#rows.claimed(row));
  }

  async refuse(seat: string, refused: readonly Refused[]): Promise<void> {
    const numbers = refused.map(({ number }) => number);
    const refusals = refused.map(({ refusal }) => (refusal === undefined ? null : JSON.stringify(refusal)));
    const areOpen = refused.map(({ isOpen }) => isOpen);
    await this.#session.query(STATEMENTS.refuse, [seat, numbers, refusals, this.#session.channel, areOpen]);
  }

  async acquire(seat: string, role: string): Promise<number | undefined> {
    const { rows } = await this.#session.query(STATEMENTS.acquire, [this.service, storedName(role), seat]);
    return rows.length === 0 ? undefined : Number(rows[0]!["fence"]);
  }

  async release(seat: string, role: string, fence: number): Promise<void> {
    await this.#session.query(STATEMENTS.release, [
      this.service,
      storedName(role),
      seat,
      fence,
      this.#session.channel,
    ]);
  }

  #seatValues({ holder, draining, topics, fence, seat, started: _, ...about }: SeatRow): unknown[] {
    const peer = JSON.stringify({ host: hostname(), ...about });
    return [seat, this.service, holder, peer, topics, draining, fence, this.lease, this.#session.channel];
  }

  async #others(seat: string): Promise<SeatRow[]> {
    const { rows } = await this.#session.kept(STATEMENTS.others, [this.service, seat]);
    return rows.map((row) => this.#rows.seat(row));
  }

  async #owners(kind: string, ids: readonly string[]): Promise<Map<string, UnitOwner>> {
    const byStored = new Map(ids.map((id) => [storedName(id), id]));
    const values = [this.service, storedName(kind), [...byStored.keys()]];
    const { rows } = await this.#session.query(STATEMENTS.owners, values);
    return new Map(
      rows.map((row) => [byStored.get(String(row["id"]))!, withoutInternals(this.#rows.seat(row))]),
    );
  }
}

function ownershipOf(row: Row): Ownership {
  return { id: fromWholeName(String(row["name"])), fence: Number(row["fence"]) };
}

function foundOffer(row: Row): FoundOffer {
  if (row["seq"] !== null) return Number(row["seq"]);
  return row["gone"] === true ? { takenBy: (row["by"] as string | null) ?? undefined } : undefined;
}

function numbersOf(drafts: readonly Draft[], rows: readonly Row[]): (number | undefined)[] {
  const numbers = new Map(rows.map(({ key, seq }) => [key, Number(seq)]));
  return drafts.map(({ key }) => numbers.get(key));
}
