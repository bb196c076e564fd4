import { bootTime } from "../hosts/boot-time.js";
import { MAX_DEATHS } from "../hosts/engine.js";
import { batches } from "../util/batches.js";
import { readClaim } from "./claim.js";
import { readBody, readHead, type Note } from "./content.js";
import { lastPart, numberOf, readOwned } from "./keys.js";
import { getOffers, readLot } from "./lots.js";
import { releases } from "./releases.js";
import { BATCH, type Store } from "./store.js";
import {
  get,
  areNone,
  isAbsent,
  isUnchanged,
  list,
  nested,
  put,
  remove,
  removeAll,
  type Answer,
  type Entry,
  type Operation,
} from "./txn.js";

/** Removes what dead seats have left, and frees what they have claimed. */
export class Sweep {
  readonly #store: Store;
  readonly #lease: number;
  /** When dead seats were first found dead. */
  readonly #dead = new Map<string, number>();

  constructor(store: Store, lease: number) {
    this.#store = store;
    this.#lease = lease;
  }

  async run(): Promise<void> {
    const { keys, gateway } = this.#store;
    const found = await gateway.read([
      list(keys.claim()),
      list(keys.lot()),
      list(keys.expiry()),
      list(keys.known(), { keysOnly: true }),
      list(keys.seat(), { keysOnly: true }),
    ]);
    const [claims, lots, expiries, known, seats] = found.answers.map(({ entries }) => entries) as [
      Entry[],
      Entry[],
      Entry[],
      Entry[],
      Entry[],
    ];
    const alive = new Set(seats.map(({ key }) => lastPart(key)));
    await this.#free(
      claims.filter(({ value }) => !alive.has(readOwned(value).seat)),
      alive,
    );
    for (const entry of lots) if (!alive.has(readLot(entry).claimant)) await this.#freeLot(entry);
    await this.#expire(expiries);
    const dead = known.map(({ key }) => lastPart(key)).filter((seat) => !alive.has(seat));
    for (const seat of this.#dead.keys()) if (!dead.includes(seat)) this.#dead.delete(seat);
    for (const seat of dead) await this.#bury(seat);
  }

  async #free(claims: readonly Entry[], alive: ReadonlySet<string>): Promise<void> {
    const { keys, gateway } = this.#store;
    for (const some of batches(claims, [FREED], () => [1])) {
      const drafts = some.map((entry) => ({ entry, number: numberOf(entry.key), ...readClaim(entry.value) }));
      const found = await gateway.read(
        drafts.flatMap(({ owner, number }) => [
          get(keys.offer(owner, number)),
          get(keys.note(owner, number)),
        ]),
      );
      const operations = drafts.map(({ entry, number, owner, claimant, fence }, n) => {
        const [offer] = found.answers[2 * n]!.entries;
        const [noted] = found.answers[2 * n + 1]!.entries;
        const before = noted === undefined ? undefined : (JSON.parse(noted.value.toString()) as Note);
        const note: Note = { refusedBy: [], ...before, deaths: (before?.deaths ?? 0) + 1, fence };
        return nested(
          [isUnchanged(entry), isAbsent(keys.seat(claimant))],
          [
            remove(entry.key),
            ...(offer === undefined ? [] : this.#freed(number, owner, offer.value, note, alive.has(owner))),
          ],
        );
      });
      const bells = [...new Set(drafts.map(({ owner }) => keys.bell(owner)))].slice(0, MOST_OWNERS);
      await gateway.txn(
        [],
        [...operations, ...[...bells, keys.offerBell].map((key) => put(key, ""))],
        [],
        true,
      );
    }
  }

  /** What a dead process had claimed as a lot is claimed one by one: it may have died of one of them. */
  async #freeLot(entry: Entry): Promise<void> {
    const { keys, gateway } = this.#store;
    const lot = readLot(entry);
    const [offers] = (await gateway.read([getOffers(keys, lot)])).answers as [Answer];
    const own = offers.entries.filter(({ key }) => !lot.left.has(numberOf(key)));
    const note: Note = { deaths: 1, refusedBy: [], fence: lot.fence };
    const operations = own.flatMap(({ key, value }) =>
      this.#freed(numberOf(key), lot.owner, value, note, true),
    );
    await gateway.txn(
      [isUnchanged(entry), isAbsent(keys.seat(lot.claimant))],
      [
        remove(entry.key),
        ...operations,
        ...[keys.bell(lot.owner), keys.offerBell].map((key) => put(key, "")),
      ],
      [],
      true,
    );
  }

  #freed(number: number, owner: string, content: Buffer, note: Note, isOwnerAlive: boolean): Operation[] {
    const { keys } = this.#store;
    const operations = releases(
      keys,
      { number, owner, head: readHead(content), body: readBody(content) },
      note,
    );
    if (note.deaths < MAX_DEATHS) return operations;
    // No other process takes it. Its owner has it back; if that is dead as well, a unit is an orphan.
    return isOwnerAlive
      ? operations.slice(0, 1)
      : [remove(keys.offer(owner, number)), remove(keys.note(owner, number))];
  }

  async #expire(expiries: readonly Entry[]): Promise<void> {
    const { gateway, keys, clock } = this.#store;
    const over = expiries.filter(({ value }) => readExpiry(value).expires <= clock.earliest);
    for (const some of batches(over, [BATCH], () => [1]))
      await gateway.txn(
        [],
        some.map((entry) => {
          const { offer, list: listed } = readExpiry(entry.value);
          const conditions = [isUnchanged(entry), isAbsent(keys.claim(numberOf(entry.key)))];
          return nested(
            conditions,
            [entry.key, offer, listed].map((key) => remove(key)),
          );
        }),
        [],
        true,
      );
  }

  /** Removes what a dead seat has left, when its units have been free for long and it offers nothing. */
  async #bury(seat: string): Promise<void> {
    const { keys, gateway } = this.#store;
    const found = await gateway.read([
      list(keys.note(seat)),
      list(keys.offer(seat), { keysOnly: true, limit: 1 }),
    ]);
    const [notes, offers] = found.answers.map(({ entries }) => entries) as [Entry[], Entry[]];
    const exhausted = notes.filter(
      ({ value }) => (JSON.parse(value.toString()) as Note).deaths >= MAX_DEATHS,
    );
    for (const some of batches(exhausted, [BATCH / 2], () => [1]))
      await gateway.txn(
        [],
        some.flatMap(({ key }) => [remove(key), remove(keys.offer(seat, numberOf(key)))]),
        [],
        true,
      );
    const since = this.#dead.get(seat) ?? bootTime();
    this.#dead.set(seat, since);
    if (bootTime() - since < this.#lease * LEASES) return;
    if (offers.length > 0 && (await this.#removeOffers(seat))) return;
    await this.#removeUnits(seat);
    const lists = (await gateway.read([list(keys.lists(), { keysOnly: true })])).answers[0]!.entries;
    const own = lists.filter(({ key }) => key.split("/").at(-2) === seat);
    for (const some of batches(own, [BATCH], () => [1]))
      await gateway.txn(
        [],
        some.map(({ key }) => remove(key)),
        [],
        true,
      );
    const rest = [keys.done(seat), keys.note(seat)].map((prefix) => removeAll(prefix));
    await gateway.txn([], [...rest, remove(keys.bell(seat)), remove(keys.known(seat))], [], true);
  }

  /** Removes offers that no process has taken. Resolves with whether some are left: those with a ttl, or that are being taken. */
  async #removeOffers(seat: string): Promise<boolean> {
    const { keys, gateway } = this.#store;
    let isLeft = false;
    for (let after: string | undefined, isMore = true; isMore;) {
      const options = { limit: BATCH, ...(after === undefined ? {} : { after }) };
      const page = (await gateway.read([list(keys.offer(seat), options)])).answers[0]!.entries;
      const old = page.filter(({ value }) => readHead(value).expires === undefined);
      isLeft ||= old.length < page.length;
      if (old.length > 0) {
        const operations = old.map(({ key }) => nested([isAbsent(keys.claim(numberOf(key)))], [remove(key)]));
        const { succeeded, answers } = await gateway.txn([areNone(keys.lot(seat))], operations, [], true);
        isLeft ||= !succeeded || answers.some(({ txn }) => txn?.succeeded !== true);
      }
      after = page.at(-1)?.key;
      isMore = page.length === BATCH;
    }
    return isLeft;
  }

  async #removeUnits(seat: string): Promise<void> {
    const { keys, gateway } = this.#store;
    const fence = (await gateway.read([get(keys.fence)])).answers[0]!.entries[0];
    this.#store.seen(Number(fence?.value ?? 0));
    for (let after: string | undefined, isMore = true; isMore;) {
      const options = { limit: PAGE, ...(after === undefined ? {} : { after }) };
      const page = (await gateway.read([list(keys.allUnits(), options)])).answers[0]!.entries;
      const own = page.filter(({ value }) => readOwned(value).seat === seat);
      for (const some of batches(own, [BATCH], () => [1])) {
        const highest = Math.max(...some.map(({ value }) => readOwned(value).fence));
        await gateway.txn(
          [isAbsent(keys.seat(seat))],
          [
            // What is removed here must not be given a lower fence later.
            this.#store.raise(this.#store.fenceAfterDeath(highest)),
            ...some.map((entry) => nested([isUnchanged(entry)], [remove(entry.key)])),
          ],
          [],
          true,
        );
      }
      after = page.at(-1)?.key;
      isMore = page.length === PAGE;
    }
  }
}

function readExpiry(value: Buffer): { expires: number; offer: string; list: string } {
  return JSON.parse(value.toString()) as ReturnType<typeof readExpiry>;
}

/** Leases for which a seat must have been dead. */
const LEASES = 10;

/** Claims that are freed in one question. */
const FREED = 50;

const MOST_OWNERS = 10;

/** Entries of one answer. */
const PAGE = 1_000;
