import { HandoverError } from "../errors.js";
import type { Draft, FoundOffer, OfferKey, OfferState, Returned } from "../hosts/engine.js";
import { topicOf } from "../hosts/names.js";
import { batches } from "../util/batches.js";
import { AwayError } from "./away-error.js";
import { readNote } from "./content.js";
import { leaseOf, numberOf, readOwned } from "./keys.js";
import { readDone, readLot } from "./lots.js";
import { OfferNumbers } from "./offer-numbers.js";
import { apart, makeAlone, makeLot, mayShare, questionsOf, type Part } from "./offer-operations.js";
import { BATCH, type Store } from "./store.js";
import { takersIn, takersOf } from "./takers.js";
import {
  get,
  getName,
  isAbsent,
  isPresent,
  list,
  nested,
  put,
  remove,
  type Entry,
  type Operation,
} from "./txn.js";

/** Offers that were made at once, and are claimed together. */
interface OfferedLot {
  /** The key that lists them as long as no process has claimed them. */
  readonly listed: string;
  /** Has the claim. */
  readonly key: string;
  /** Those that are not settled. */
  readonly open: Set<number>;
}

interface SentOffer {
  readonly number: number;
  readonly lot: OfferedLot | undefined;
}

/** What this process offers to others. */
export class Offers {
  readonly #store: Store;
  readonly #numbers: OfferNumbers;
  /** The numbers of drafts whose offer was not answered. */
  readonly #sent = new Map<string, SentOffer>();
  readonly #open = new Map<number, { readonly offer: OfferKey; readonly lot: OfferedLot | undefined }>();
  /** What removes keys that are no longer needed. */
  readonly #over: Operation[] = [];
  /** When all offers are looked for again, on the clock of `performance.now()`: till then it is enough to hear who has taken some. */
  #nextCheck = 0;

  constructor(store: Store) {
    this.#store = store;
    this.#numbers = new OfferNumbers(store);
  }

  async offer(seat: string, drafts: readonly Draft[]): Promise<(number | undefined)[]> {
    const voided = drafts[0]!.key;
    const numbers = new Map<Draft, number>();
    const send = async (questions: readonly (readonly Part[])[]): Promise<void> => {
      for (const parts of questions)
        for (const one of await this.#offer(seat, parts, voided)) numbers.set(...one);
    };
    let isUnknown = false;
    try {
      await send(questionsOf(this.#store, drafts));
      // One unit of a lot is not this seat's: the others are offered without it.
      await send(apart(drafts.filter((draft) => !numbers.has(draft) && mayShare(draft))));
      return drafts.map((draft) => numbers.get(draft));
    } catch (error) {
      // Also if only some of them are offered.
      isUnknown = error instanceof AwayError && (error.isAmbiguous ||= numbers.size > 0);
      throw error;
    } finally {
      if (!isUnknown) for (const { key } of drafts) this.#sent.delete(key);
    }
  }

  /** @param voided if this key is void, nothing is offered any longer. Resolves with the numbers of what was offered */
  async #offer(seat: string, parts: readonly Part[], voided: string): Promise<(readonly [Draft, number])[]> {
    const { keys, gateway } = this.#store;
    const drafts = parts.flatMap((part) => part.drafts);
    const reserved = await this.#numbers.take(drafts.length);
    const at = this.#store.clock.earliest;
    const operations: Operation[] = [];
    const places = new Map<Draft, number>();
    for (const { drafts: some, isLot } of parts) {
      const numbers = reserved.splice(0, some.length);
      const lot = isLot ? this.#lot(seat, topicOf(some[0]!.parcel), numbers) : undefined;
      for (const [n, draft] of some.entries()) {
        this.#sent.set(draft.key, { number: numbers[n]!, lot });
        places.set(draft, operations.length + (isLot ? 0 : n));
      }
      if (lot === undefined)
        operations.push(...some.map((draft, n) => makeAlone(this.#store, seat, draft, numbers[n]!, at)));
      else operations.push(makeLot(this.#store, seat, lot.listed, some, numbers, at));
    }
    const { succeeded, answers } = await gateway.txn(
      [isPresent(keys.seat(seat)), isAbsent(keys.void(seat, voided))],
      [...operations, put(keys.offerBell, "")],
    );
    if (!succeeded) throw new HandoverError("ERR_EXCHANGE", "etcd does not know the seat of this process");
    const offered = drafts.filter((draft) => answers[places.get(draft)!]!.txn!.succeeded);
    return offered.map((draft) => [draft, this.#keep(draft, this.#sent.get(draft.key)!).number]);
  }

  #lot(seat: string, topic: string, numbers: readonly number[]): OfferedLot {
    const { keys } = this.#store;
    const [first] = numbers as [number];
    return {
      listed: keys.list(topic, seat, first, false),
      key: keys.lot(seat, first),
      open: new Set(numbers),
    };
  }

  async findOffers(seat: string, drafts: readonly Draft[]): Promise<FoundOffer[]> {
    const { keys, gateway } = this.#store;
    await gateway.txn([], [put(keys.void(seat, drafts[0]!.key), "", leaseOf(seat))], [], true);
    const sent = drafts.filter(({ key }) => this.#sent.has(key));
    const offers = sent.map((draft) => this.#keep(draft, this.#sent.get(draft.key)!));
    const results = new Map<string, FoundOffer>();
    for (const some of batches([...offers.entries()], [BATCH], () => [1])) {
      const { answers } = await gateway.read(some.map(([, { number }]) => getName(keys.offer(seat, number))));
      for (const [n, [index, { number }]] of some.entries())
        if (answers[n]!.entries.length > 0) results.set(sent[index]!.key, number);
    }
    // One that another process has taken meanwhile had arrived.
    const gone = offers.filter((_, n) => !results.has(sent[n]!.key));
    const takers = await takersOf(this.#store, seat, gone);
    for (const [n, { number }] of offers.entries()) {
      const takenBy = takers.get(number);
      if (takenBy !== undefined && takenBy !== seat) results.set(sent[n]!.key, { takenBy });
    }
    for (const { number } of gone) this.#open.delete(number);
    for (const { key } of drafts) this.#sent.delete(key);
    return drafts.map(({ key }) => results.get(key));
  }

  async look(seat: string, offers: readonly OfferKey[]): Promise<OfferState[]> {
    const { keys, gateway } = this.#store;
    const isCheck = performance.now() >= this.#nextCheck;
    const over = this.#over.splice(0, BATCH);
    const reading = [
      ...over,
      list(keys.note(seat)),
      list(keys.done(seat)),
      ...(isCheck ? [list(keys.offer(seat), { keysOnly: true })] : []),
    ];
    const found = await gateway.read(reading).catch((error: unknown) => {
      this.#over.unshift(...over);
      throw error;
    });
    const [noted, done, offered] = found.answers.slice(over.length).map(({ entries }) => entries) as [
      Entry[],
      Entry[],
      Entry[] | undefined,
    ];
    const takers = takersIn(done);
    const missing = new Set<number>();
    if (offered !== undefined) {
      this.#nextCheck = performance.now() + CHECK;
      const there = new Set(offered.map(({ key }) => numberOf(key)));
      const gone = offers.filter(({ number }) => !there.has(number) && !takers.has(number));
      for (const [number, taker] of await takersOf(this.#store, seat, gone)) takers.set(number, taker);
      for (const { number } of gone) missing.add(number);
    }
    const notes = new Map(noted.map((entry) => [numberOf(entry.key), entry]));
    const states = offers.flatMap((offer): OfferState | [] => {
      const { number } = offer;
      const by = takers.get(number);
      const isMissing = missing.has(number);
      const entry = notes.get(number);
      if (by === undefined && !isMissing && entry === undefined) return [];
      const isBack = isMissing && (keys.unitOf(offer) === undefined ? by === undefined : by === seat);
      const isGone = !isBack && (isMissing || by !== undefined);
      if (isBack)
        return { ...this.#returned(seat, number, entry), isGone, isBack, by, deaths: 0, refusedBy: [] };
      const { deaths = 0, refusedBy = [], refusal } = entry === undefined ? {} : readNote(entry);
      return { number, isGone, isBack, by, deaths, refusedBy, refusal };
    });
    const settled = states.filter(({ isGone, isBack }) => isGone || isBack === true);
    this.#forget(
      settled.map(({ number }) => number),
      done,
    );
    return states;
  }

  /** @returns those that are the owner's again, and the processes that are taking others */
  async withdraw(
    seat: string,
    numbers: readonly number[],
  ): Promise<{ back: Returned[]; claimants: readonly string[] }> {
    const back: Returned[] = [];
    const claimants = new Set<string>();
    const offers = numbers.flatMap((number) => this.#open.get(number)?.offer ?? []);
    for (const some of batches(offers, [WITHDRAWN], () => [1])) {
      // One that has left its lot is marked at first, as if the lot's claimant had it.
      const left = await this.#withdraw(seat, some, back, claimants);
      if (left.length > 0) await this.#withdraw(seat, left, back, claimants);
    }
    return { back, claimants: [...claimants] };
  }

  /** @returns those that have left their lot, and must be asked for again */
  async #withdraw(
    seat: string,
    offers: readonly OfferKey[],
    back: Returned[],
    claimants: Set<string>,
  ): Promise<OfferKey[]> {
    const { keys, gateway } = this.#store;
    const { answers } = await gateway.txn(
      [],
      offers.map((offer) => this.#takeBack(seat, offer)),
      [],
      true,
    );
    const missing: OfferKey[] = [];
    const left: OfferKey[] = [];
    const rung = new Set<string>();
    const returned: Returned[] = [];
    for (const [n, offer] of offers.entries()) {
      const { succeeded, answers: inner } = answers[n]!.txn!;
      if (succeeded) {
        returned.push(this.#returned(seat, offer.number, inner[0]!.entries[0]));
        continue;
      }
      const { succeeded: isThere, answers: last } = inner[0]!.txn!;
      if (!isThere) {
        missing.push(offer);
        continue;
      }
      const [[claim], [alone], [lot]] = last.map(({ entries }) => entries) as [Entry[], Entry[], Entry[]];
      if (claim === undefined && (lot === undefined || alone !== undefined)) {
        this.#open.set(offer.number, { offer, lot: undefined });
        left.push(offer);
        continue;
      }
      const { seat: claimant } =
        claim === undefined ? { seat: readLot(lot!).claimant } : readOwned(claim.value);
      claimants.add(claimant);
      if (last.at(-1)!.txn!.succeeded) rung.add(claimant);
    }
    await this.#ring(rung);
    // It was given back before, and the answer was lost; or it was taken.
    const takers = await takersOf(this.#store, seat, missing);
    const returnedBefore = missing.filter((offer) => {
      const taker = takers.get(offer.number);
      return keys.unitOf(offer) === undefined ? taker === undefined : taker === seat;
    });
    if (returnedBefore.length > 0) {
      const notes = await gateway.read(returnedBefore.map(({ number }) => get(keys.note(seat, number))));
      for (const [n, { number }] of returnedBefore.entries())
        returned.push(this.#returned(seat, number, notes.answers[n]!.entries[0]));
    }
    back.push(...returned);
    this.#forget(
      returned.map(({ number }) => number),
      [],
    );
    return left;
  }

  /** @param noted what is known of those that had it: they may have run it with their fences */
  #returned(seat: string, number: number, noted: Entry | undefined): Returned {
    if (noted === undefined) return { number, fence: undefined };
    this.#over.push(remove(this.#store.keys.note(seat, number)));
    const fence = readNote(noted).fence + 1;
    this.#store.seen(fence);
    return { number, fence };
  }

  /** Takes an offer back that nobody claims; marks one that is claimed. */
  #takeBack(seat: string, offer: OfferKey): Operation {
    const { keys } = this.#store;
    const { number } = offer;
    const key = keys.offer(seat, number);
    const note = keys.note(seat, number);
    const alone = keys.list(topicOf(offer), seat, number, true);
    const lot = this.#open.get(number)?.lot;
    // The note stays for the case that the answer is lost.
    const own = [key, alone, keys.expiry(number), keys.back(seat, number)];
    return nested(
      [isAbsent(keys.claim(number)), isPresent(key), ...(lot === undefined ? [] : [isAbsent(lot.key)])],
      [get(note), ...own.map((one) => remove(one))],
      [
        nested(
          [isPresent(key), isPresent(keys.seat(seat))],
          [
            get(keys.claim(number)),
            getName(alone),
            get(lot?.key ?? keys.claim(number)),
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

  #keep({ parcel: { kind, label, id } }: Draft, { number, lot }: SentOffer): OfferKey {
    const offer = { number, kind, label, id };
    this.#open.set(number, { offer, lot });
    return offer;
  }

  /** What is kept of offers that are gone, or back, is removed with the next question, or when the seat has ended. */
  #forget(numbers: readonly number[], done: readonly Entry[]): void {
    for (const number of numbers) {
      const lot = this.#open.get(number)?.lot;
      this.#open.delete(number);
      lot?.open.delete(number);
      // If all of it was taken back, no claimant removes it.
      if (lot?.open.size === 0) this.#over.push(nested([isAbsent(lot.key)], [remove(lot.listed)]));
    }
    const gone = new Set(numbers);
    for (const entry of done)
      if (readDone(entry).numbers.every((number) => gone.has(number))) this.#over.push(remove(entry.key));
  }
}

/** ms after which all offers are looked for. */
const CHECK = 1_000;

/** Withdrawals of one question, each of up to seven operations. */
const WITHDRAWN = 50;
