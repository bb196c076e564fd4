import { HandoverError, type UnitOwner } from "../errors.js";
import type { Ownership } from "../exchange/directory.js";
import type { Orphan } from "../hosts/engine.js";
import { askForUnits, type UnitOwners } from "../hosts/ask-for-units.js";
import { withoutInternals } from "../hosts/host-outbox.js";
import { batches } from "../util/batches.js";
import { readHead } from "./content.js";
import { lastPart, ownedBy, padded, readOwned } from "./keys.js";
import { BATCH, type Store } from "./store.js";
import {
  beginsWith,
  get,
  is,
  isAbsent,
  isBelow,
  isPresent,
  isUnchanged,
  list,
  nested,
  put,
  remove,
  type Answer,
  type Entry,
  type Operation,
} from "./txn.js";

/** A unit that is asked for, and what was found of it. */
interface Question {
  readonly id: string;
  readonly key: string;
  entry: Entry | undefined;
  fence: number;
}

/** The directory: which seat owns which unit. */
export class UnitKeys {
  readonly #store: Store;
  /** Pairs of a dead seat and a kind: all units of that kind have left the seat. */
  readonly #searched = new Set<string>();

  constructor(store: Store) {
    this.#store = store;
  }

  async own(
    seat: string,
    kind: string,
    ids: readonly string[],
    from?: string,
  ): Promise<(number | UnitOwner)[]> {
    const { keys } = this.#store;
    const questions = new Map(
      ids.map((id): [string, Question] => [id, { id, key: keys.unit(kind, id), entry: undefined, fence: 0 }]),
    );
    return askForUnits(ids, async (left, owners) => {
      const asked = left.map((id) => questions.get(id)!);
      for (const some of batches(asked, LIMITS, ({ id }) => [1, id.length]))
        await this.#ask(seat, some, from, owners);
      const others = asked.filter(({ id }) => !owners.has(id));
      await this.#findOwners(others, [seat, from], owners);
    });
  }

  async disown(seat: string, kind: string, units: readonly Ownership[]): Promise<void> {
    const { keys, gateway } = this.#store;
    for (const some of batches(units, LIMITS, ({ id }) => [1, id.length])) {
      const fences = some.map(({ fence }) => fence);
      await gateway.txn(
        [],
        [
          // What is removed here must not be given a lower fence later.
          this.#store.raise(this.#store.highest(...fences)),
          ...some.map(({ id, fence }) => {
            const key = keys.unit(kind, id);
            return nested(beginsWith(key, seat, `${seat} ${padded(fence)}!`), [remove(key)]);
          }),
        ],
        [],
        true,
      );
    }
  }

  async where(kind: string, id: string): Promise<UnitOwner | undefined> {
    const { keys, gateway } = this.#store;
    const key = keys.unit(kind, id);
    const [entry] = (await gateway.read([get(key)])).answers[0]!.entries;
    const owners: UnitOwners = new Map();
    await this.#findOwners([{ id, key, entry, fence: 0 }], [], owners);
    return owners.get(id) as UnitOwner | undefined;
  }

  async findOrphans(kind: string, limit: number): Promise<Orphan[]> {
    const { keys, gateway } = this.#store;
    const found = await gateway.read([
      list(keys.known(), { keysOnly: true }),
      list(keys.seat(), { keysOnly: true }),
      get(keys.fence),
    ]);
    const [known, living, [highest]] = found.answers.map(({ entries }) => entries) as [
      Entry[],
      Entry[],
      Entry[],
    ];
    this.#store.seen(Number(highest?.value ?? 0));
    const alive = new Set(living.map(({ key }) => lastPart(key)));
    const gone = known.map(({ key }) => lastPart(key)).filter((one) => !alive.has(one));
    // A dead seat gets no more units: one look at all of a kind is enough.
    const dead = new Set(gone.filter((one) => !this.#searched.has(`${one} ${kind}`)));
    if (dead.size === 0) return [];
    const offered = await this.#onOffer([...dead]);
    let isLeft = offered.size > 0;
    const orphans: Entry[] = [];
    for (let after: string | undefined, isMore = true; isMore && orphans.length < limit;) {
      const options = { limit: PAGE, ...(after === undefined ? {} : { after }) };
      const page = (await gateway.read([list(keys.units(kind), options)])).answers[0]!.entries;
      for (const entry of page)
        if (dead.has(readOwned(entry.value).seat) && !offered.has(entry.key)) orphans.push(entry);
      after = page.at(-1)?.key;
      isMore = page.length === PAGE;
      isLeft ||= isMore;
    }
    if (orphans.length === 0 && !isLeft) for (const one of dead) this.#searched.add(`${one} ${kind}`);
    return orphans.slice(0, limit).map(({ key, value }) => {
      const { seat: owner, fence, name } = readOwned(value);
      return { id: name ?? lastPart(key), owner, fence };
    });
  }

  /** Makes units the seat's that are as they were found. What an earlier question has made the seat's is in the answer. */
  async takeOrphans(seat: string, kind: string, orphans: readonly Orphan[]): Promise<Ownership[]> {
    const { keys, gateway } = this.#store;
    const taken: Ownership[] = [];
    for (const some of batches(orphans, LIMITS, ({ id }) => [1, id.length])) {
      const fences = some.map(({ fence }) => this.#store.fenceAfterDeath(fence));
      const { answers } = await gateway.txn(
        [isPresent(keys.seat(seat))],
        some.map(({ id, owner, fence }, n) => {
          const key = keys.unit(kind, id);
          const isAsFound = [is(key, ownedBy(owner, fence, id)), isAbsent(keys.seat(owner))];
          return nested(isAsFound, [put(key, ownedBy(seat, fences[n]!, id))], [get(key)]);
        }),
      );
      for (const [n, { id }] of some.entries()) {
        const { succeeded = false, answers: [found] = [] } = answers[n]?.txn ?? {};
        const [entry] = found?.entries ?? [];
        const owned = entry === undefined ? undefined : readOwned(entry.value);
        if (succeeded) taken.push({ id, fence: fences[n]! });
        else if (owned?.seat === seat) taken.push({ id, fence: owned.fence });
      }
    }
    return taken;
  }

  async #ask(
    seat: string,
    questions: readonly Question[],
    from: string | undefined,
    owners: UnitOwners,
  ): Promise<void> {
    const { keys, gateway } = this.#store;
    const operations = questions.map((question) => this.#attempt(seat, question, from));
    const result = await gateway.txn([isPresent(keys.seat(seat))], [...operations, get(keys.fence)]);
    if (!result.succeeded)
      throw new HandoverError("ERR_EXCHANGE", "etcd does not know the seat of this process");
    this.#store.seen(Number(result.answers.at(-1)!.entries[0]!.value));
    for (const [n, question] of questions.entries()) {
      const { succeeded, answers } = result.answers[n]!.txn!;
      if (succeeded) {
        this.#store.seen(question.fence);
        owners.set(question.id, question.fence);
        continue;
      }
      const [entry] = answers[0]!.entries;
      question.entry = entry;
      if (entry !== undefined) this.#store.seen(readOwned(entry.value).fence);
    }
  }

  /** The units that other seats have: those that live, and those that are dead and have offered the unit. */
  async #findOwners(
    questions: readonly Question[],
    own: readonly (string | undefined)[],
    owners: UnitOwners,
  ): Promise<void> {
    const owned = questions.flatMap(({ id, key, entry }) => {
      const owner = entry === undefined ? undefined : readOwned(entry.value).seat;
      return owner === undefined || own.includes(owner) ? [] : [{ id, key, owner }];
    });
    const seats = await this.#describe(new Set(owned.map(({ owner }) => owner)));
    const dead = [...seats].filter(([, row]) => row === undefined).map(([owner]) => owner);
    const offered = await this.#onOffer(dead);
    for (const { id, key, owner } of owned) {
      const row = seats.get(owner);
      if (row !== undefined) owners.set(id, row);
      // Whoever takes it has its state.
      else if (offered.has(key)) owners.set(id, this.#store.peerOf(owner));
    }
  }

  /** Of seats: how they describe themselves; undefined for those whose lease has ended. */
  async #describe(seats: ReadonlySet<string>): Promise<Map<string, UnitOwner | undefined>> {
    const { keys, gateway } = this.#store;
    const owners = new Map<string, UnitOwner | undefined>();
    for (const some of batches([...seats], [BATCH], () => [1])) {
      const { answers } = await gateway.read(some.map((one) => get(keys.seat(one))));
      for (const [n, one] of some.entries()) {
        const [entry] = answers[n]!.entries;
        owners.set(one, entry === undefined ? undefined : withoutInternals(this.#store.readSeat(entry)));
      }
    }
    return owners;
  }

  /** Makes a unit the seat's, if it is as it was found; else says how it is. */
  #attempt(seat: string, question: Question, from: string | undefined): Operation {
    const { keys } = this.#store;
    const { id, key, entry } = question;
    const take = (fence: number): Operation[] => {
      question.fence = fence;
      return [put(key, ownedBy(seat, fence, id))];
    };
    if (entry === undefined) {
      const success = take(this.#store.nextFence());
      // Another process may have had it and given it up since the highest fence was read.
      return nested([isAbsent(key), isBelow(keys.fence, padded(question.fence))], success, [get(key)]);
    }
    const owned = readOwned(entry.value);
    if (owned.seat === seat || owned.seat === from)
      return nested([isUnchanged(entry)], take(Math.max(this.#store.nextFence(), owned.fence + 1)), [
        get(key),
      ]);
    return nested(
      [isUnchanged(entry), isAbsent(keys.seat(owned.seat))],
      take(this.#store.fenceAfterDeath(owned.fence)),
      [get(key)],
    );
  }

  /** The keys of units that seats offer. */
  async #onOffer(seats: readonly string[]): Promise<Set<string>> {
    const { keys, gateway } = this.#store;
    const units = new Set<string>();
    for (const seat of seats) {
      const prefix = keys.offer(seat);
      for (let after: string | undefined, isMore = true; isMore;) {
        const options = { limit: OFFERS_PAGE, ...(after === undefined ? {} : { after }) };
        const [page] = (await gateway.read([list(prefix, options)])).answers as [Answer];
        for (const { value } of page.entries) {
          const key = keys.unitOf(readHead(value));
          if (key !== undefined) units.add(key);
        }
        after = page.entries.at(-1)?.key;
        isMore = page.entries.length === OFFERS_PAGE;
      }
    }
    return units;
  }
}

/** Units of one question, and characters of their ids. */
const LIMITS = [BATCH, 200_000];

/** Entries of one answer. */
const PAGE = 1_000;
/** With their states. */
const OFFERS_PAGE = 100;
