import { HandoverError } from "../errors.js";
import type { Draft, OfferKey, OfferState } from "../hosts/engine.js";
import { topicOf } from "../hosts/names.js";
import { batches } from "../util/batches.js";
import { AwayError } from "./away-error.js";
import { contentOf, type Listing, type Note } from "./content.js";
import { leaseOf, numberOf, padded, readOwned } from "./keys.js";
import { BATCH, type Store } from "./store.js";
import {
  beginsWith,
  get,
  getName,
  isAbsent,
  isPresent,
  isUnchanged,
  list,
  nested,
  put,
  remove,
  type Condition,
  type Entry,
  type Operation,
} from "./txn.js";

interface OfferList {
  readonly key: string;
  readonly left: Set<number>;
}

/** What this process offers to others. */
export class Offers {
  readonly #store: Store;
  #next = 0;
  #end = 0;
  #reserving: Promise<void> = Promise.resolve();
  /** The numbers of drafts whose offer was not answered. */
  readonly #sent = new Map<string, number>();
  /** What is on offer, with the key that lists it and the numbers there that are not gone. */
  readonly #open = new Map<number, { readonly offer: OfferKey; readonly list: OfferList | undefined }>();

  constructor(store: Store) {
    this.#store = store;
  }

  async offer(seat: string, drafts: readonly Draft[]): Promise<(number | undefined)[]> {
    const { keys, gateway } = this.#store;
    const numbers = await this.#reserve(drafts.length);
    const at = this.#store.clock.earliest;
    const topics = new Map<string, number[]>();
    for (const [n, { parcel }] of drafts.entries()) {
      const topic = topicOf(parcel);
      topics.set(topic, [...(topics.get(topic) ?? []), n]);
    }
    const areAlone = topics.size > MOST_TOPICS;
    const operations = drafts.map((draft, n) => this.#make(seat, draft, numbers[n]!, at, areAlone));
    const listed = new Map<number, OfferList>();
    for (const [topic, indexes] of topics) {
      const together = indexes.filter((n) => !areAlone && drafts[n]!.parcel.ttl === undefined);
      if (together.length === 0) continue;
      const key = keys.list(topic, seat, numbers[together[0]!]!, false);
      const fence = Math.max(...together.map((n) => drafts[n]!.fence));
      const offers = together.map((n) => [numbers[n]!, drafts[n]!.parcel.body.length] as const);
      operations.push(put(key, JSON.stringify({ at, fence, offers } satisfies Listing)));
      const left = new Set(together.map((n) => numbers[n]!));
      for (const number of left) listed.set(number, { key, left });
    }
    for (const [n, { key }] of drafts.entries()) this.#sent.set(key, numbers[n]!);
    let isUnknown = false;
    try {
      const { succeeded, answers } = await gateway.txn(
        [isPresent(keys.seat(seat)), isAbsent(keys.void(seat, drafts[0]!.key))],
        [...operations, put(keys.offerBell, "")],
      );
      if (!succeeded) throw new HandoverError("ERR_EXCHANGE", "etcd does not know the seat of this process");
      for (const [n, draft] of drafts.entries()) this.#keep(draft, numbers[n]!, listed.get(numbers[n]!));
      return drafts.map((_, n) => (answers[n]!.txn?.succeeded === false ? undefined : numbers[n]));
    } catch (error) {
      isUnknown = error instanceof AwayError && error.isAmbiguous;
      throw error;
    } finally {
      if (!isUnknown) for (const { key } of drafts) this.#sent.delete(key);
    }
  }

  async findOffers(seat: string, drafts: readonly Draft[]): Promise<(number | undefined)[]> {
    const { keys, gateway } = this.#store;
    await gateway.txn([], [put(keys.void(seat, drafts[0]!.key), "", leaseOf(seat))], [], true);
    const offers = drafts.map((draft) => this.#keep(draft, this.#sent.get(draft.key)!, undefined));
    const found = await gateway.read(offers.map(({ number }) => getName(keys.offer(seat, number))));
    const gone = offers.filter((_, n) => found.answers[n]!.entries.length === 0);
    // One that another process has taken meanwhile had arrived.
    const takers = await this.#takersOf(seat, gone);
    for (const { key } of drafts) this.#sent.delete(key);
    return offers.map(({ number }, n) => {
      if (found.answers[n]!.entries.length > 0) return number;
      const taker = takers.get(number);
      return taker === undefined || taker === seat ? undefined : number;
    });
  }

  async look(seat: string, offers: readonly OfferKey[]): Promise<OfferState[]> {
    const { keys, gateway } = this.#store;
    const found = await gateway.read([
      list(keys.offer(seat), { keysOnly: true }),
      list(keys.note(seat)),
      list(keys.done(seat), { keysOnly: true }),
    ]);
    const [offered, noted, done] = found.answers.map(({ entries }) => entries) as [Entry[], Entry[], Entry[]];
    const open = new Set(offered.map(({ key }) => numberOf(key)));
    const notes = new Map(
      noted.map(({ key, value }) => [numberOf(key), JSON.parse(value.toString()) as Note]),
    );
    const gone = offers.filter(({ number }) => !open.has(number));
    const takers = await this.#takersOf(seat, gone);
    await this.#forget(gone, done);
    return offers.map(({ number }) => {
      const { deaths = 0, refusedBy = [], refusal } = notes.get(number) ?? {};
      return { number, isGone: !open.has(number), by: takers.get(number), deaths, refusedBy, refusal };
    });
  }

  /** @returns those that are the owner's again, and the processes that are taking others */
  async withdraw(
    seat: string,
    numbers: readonly number[],
  ): Promise<{ back: number[]; claimants: readonly string[] }> {
    const { keys, gateway } = this.#store;
    const back: number[] = [];
    const claimants = new Set<string>();
    const offers = numbers.flatMap((number) => this.#open.get(number)?.offer ?? []);
    for (const some of batches(offers, [WITHDRAWN], () => [1])) {
      const { answers } = await gateway.txn(
        [],
        some.map((offer) => this.#takeBack(seat, offer)),
        [],
        true,
      );
      const missing: OfferKey[] = [];
      const rung = new Set<string>();
      for (const [n, offer] of some.entries()) {
        const { succeeded, answers: inner } = answers[n]!.txn!;
        if (succeeded) {
          back.push(offer.number);
          const [note] = inner[0]!.entries;
          // The process that had it may have run it with this fence.
          if (note !== undefined) this.#store.seen((JSON.parse(note.value.toString()) as Note).fence);
          continue;
        }
        const { succeeded: isThere, answers: last } = inner[0]!.txn!;
        const [claim] = last[0]?.entries ?? [];
        if (!isThere || claim === undefined) {
          missing.push(offer);
          continue;
        }
        const { seat: claimant } = readOwned(claim.value);
        claimants.add(claimant);
        if (last[1]!.txn!.succeeded) rung.add(claimant);
      }
      await this.#ring(rung);
      // It was given back before, and the answer was lost; or it was taken.
      const takers = await this.#takersOf(seat, missing);
      for (const offer of missing) {
        const taker = takers.get(offer.number);
        const isBack = keys.unitOf(offer) === undefined ? taker === undefined : taker === seat;
        if (isBack) back.push(offer.number);
      }
      await this.#forget(
        back.map((number) => ({ number })),
        [],
      );
    }
    return { back, claimants: [...claimants] };
  }

  #make(seat: string, { parcel, fence }: Draft, number: number, at: number, areAlone: boolean): Operation {
    const { keys } = this.#store;
    const offer = put(keys.offer(seat, number), contentOf(parcel, at));
    const unit = keys.unitOf(parcel);
    const { ttl } = parcel;
    const isAlone = areAlone || ttl !== undefined;
    if (unit === undefined && !isAlone) return offer;
    const conditions: Condition[] =
      unit === undefined ? [] : beginsWith(unit, seat, `${seat} ${padded(fence)}!`);
    const operations = [offer];
    if (isAlone) {
      const expires = ttl === undefined ? {} : { expires: at + ttl };
      const listing: Listing = { at, fence, offers: [[number, parcel.body.length]], ...expires };
      const key = keys.list(topicOf(parcel), seat, number, true);
      operations.push(put(key, JSON.stringify(listing)));
      if (ttl !== undefined)
        operations.push(
          put(
            keys.expiry(number),
            JSON.stringify({ expires: at + ttl, offer: keys.offer(seat, number), list: key }),
          ),
        );
    }
    return nested(conditions, operations);
  }

  /** Takes an offer back that nobody claims; marks one that is claimed. */
  #takeBack(seat: string, offer: OfferKey): Operation {
    const { keys } = this.#store;
    const { number } = offer;
    const key = keys.offer(seat, number);
    const note = keys.note(seat, number);
    const own = [
      key,
      note,
      keys.list(topicOf(offer), seat, number, true),
      keys.expiry(number),
      keys.back(seat, number),
    ];
    return nested(
      [isAbsent(keys.claim(number)), isPresent(key)],
      [get(note), ...own.map((one) => remove(one))],
      [
        nested(
          [isPresent(key), isPresent(keys.seat(seat))],
          [
            get(keys.claim(number)),
            nested([isAbsent(keys.back(seat, number))], [put(keys.back(seat, number), "", leaseOf(seat))]),
          ],
        ),
      ],
    );
  }

  /** Tells those that have claimed something that its owner wants it back. */
  async #ring(seats: ReadonlySet<string>): Promise<void> {
    const { keys, gateway } = this.#store;
    if (seats.size === 0) return;
    const bells = [...seats].slice(0, BATCH).map((seat) => put(keys.bell(seat), ""));
    // Each looks by itself, too.
    await gateway.txn([], bells, [], true).catch(() => {});
  }

  #keep({ parcel: { kind, label, id } }: Draft, number: number, listed: OfferList | undefined): OfferKey {
    const offer = { number, kind, label, id };
    this.#open.set(number, { offer, list: listed });
    return offer;
  }

  /** Who has what is no longer on offer: of a unit its owner, of others the process that has taken it. */
  async #takersOf(seat: string, gone: readonly OfferKey[]): Promise<Map<number, string>> {
    const { keys, gateway } = this.#store;
    const takers = new Map<number, string>();
    for (const some of batches(gone, [BATCH], () => [1])) {
      const { answers } = await gateway.read(
        some.map((offer) => get(keys.unitOf(offer) ?? keys.done(seat, offer.number))),
      );
      for (const [n, { number }] of some.entries()) {
        const [entry] = answers[n]!.entries;
        if (entry !== undefined) takers.set(number, readOwned(entry.value).seat);
      }
    }
    return takers;
  }

  /** Removes what is kept of offers that are gone. */
  async #forget(gone: readonly { readonly number: number }[], done: readonly Entry[]): Promise<void> {
    const { gateway } = this.#store;
    const over = gone.flatMap(({ number }) => {
      const listed = this.#open.get(number)?.list;
      this.#open.delete(number);
      listed?.left.delete(number);
      return listed?.left.size === 0 ? [remove(listed.key)] : [];
    });
    const numbers = new Set(gone.map(({ number }) => number));
    const told = done
      .filter(({ key }) => numbers.has(numberOf(key)))
      .map((entry) => nested([isUnchanged(entry)], [remove(entry.key)]));
    for (const some of batches([...over, ...told], [BATCH], () => [1]))
      // What stays is removed when the seat has ended.
      await gateway.txn([], some, [], true).catch(() => {});
  }

  /** Numbers that no other process of the service has. */
  async #reserve(count: number): Promise<number[]> {
    const reserving = this.#reserving.then(async () => {
      if (this.#end - this.#next < count) await this.#reserveMore();
      const first = this.#next;
      this.#next += count;
      return Array.from({ length: count }, (_, n) => first + n);
    });
    this.#reserving = reserving.then(
      () => {},
      () => {},
    );
    return reserving;
  }

  async #reserveMore(): Promise<void> {
    const { keys, gateway } = this.#store;
    for (;;) {
      const [last] = (await gateway.read([get(keys.number)])).answers[0]!.entries;
      const first = Number(last?.value ?? 0) + 1;
      const end = first + RESERVED;
      const condition = last === undefined ? isAbsent(keys.number) : isUnchanged(last);
      // If the answer is lost, so are the numbers.
      if (!(await gateway.txn([condition], [put(keys.number, String(end))])).succeeded) continue;
      this.#next = first;
      this.#end = end;
      return;
    }
  }
}

/** Topics of one question. */
const MOST_TOPICS = 20;

/** Withdrawals of one question, each of up to seven operations. */
const WITHDRAWN = 50;

/** Numbers. */
const RESERVED = 1_024;
