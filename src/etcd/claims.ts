import type { Claimed, Refused, StepResult, Wish } from "../hosts/engine.js";
import { topicOf } from "../hosts/names.js";
import { batches } from "../util/batches.js";
import { AwayError } from "./away-error.js";
import { Candidates, type Choice } from "./candidates.js";
import { claimedOf, claimOf, claimsOf, readClaim, type Claim } from "./claim.js";
import { claimDraft, costOf, isWholeLot, MOST_LOTS, type ClaimDraft } from "./claiming.js";
import type { Note } from "./content.js";
import { numberOf, readOwned } from "./keys.js";
import { getOffers, lotValue, readLot } from "./lots.js";
import { releases } from "./releases.js";
import { BATCH, type Store } from "./store.js";
import { MOST_ALONE, settleOne, settlingsOf, type Settling } from "./settling.js";
import {
  beginsWith,
  get,
  list,
  isPresent,
  nested,
  put,
  remove,
  type Answer,
  type Entry,
  type Operation,
} from "./txn.js";

/** What this seat takes from others. */
export class Claims {
  readonly #store: Store;
  readonly #candidates: Candidates;
  /** Of one seat. */
  readonly #claims = new Map<number, Claim>();
  /** Keys of claimed lots that have no offers left. */
  #empty: string[] = [];
  #seat = "";

  constructor(store: Store) {
    this.#store = store;
    this.#candidates = new Candidates(store);
  }

  async step(seat: string, settle: readonly number[], wish: Wish): Promise<StepResult> {
    this.#use(seat);
    const settled: number[] = [];
    const claimed: Claimed[] = [];
    try {
      const withdrawn = await this.#step(seat, settle, wish, settled, claimed);
      return { settled, withdrawn, claimed };
    } catch (error) {
      // What an earlier question of the step has done has to be looked up, too.
      if (error instanceof AwayError) error.isAmbiguous ||= settled.length > 0 || claimed.length > 0;
      throw error;
    }
  }

  /** Resolves with the numbers that their owners want back. */
  async #step(
    seat: string,
    settle: readonly number[],
    wish: Wish,
    settled: number[],
    claimed: Claimed[],
  ): Promise<number[]> {
    const { keys } = this.#store;
    await this.#removeEmpty(seat);
    const known = [...new Set(settle)].flatMap((number) => this.#claims.get(number) ?? []);
    const parts = settlingsOf(this.#store.keys, seat, known);
    const last = parts.pop() ?? [];
    for (const part of parts) await this.#settle(seat, part, [], [], settled, claimed);
    const topics = [...wish.topics.keys()];
    const reading = [list(keys.back(), { keysOnly: true }), ...this.#candidates.questions(topics)];
    // What is known to be on offer is claimed in the same question.
    const lots = this.#candidates.choose(seat, wish).filter(isWholeLot).slice(0, MOST_LOTS);
    const claiming = last.some(({ claims: [first] }) => first!.lot === undefined) ? [] : lots;
    const { entries, revision } = await this.#settle(seat, last, claiming, reading, settled, claimed);
    const [back, ...listings] = entries;
    const withdrawn = back!.entries
      .map(({ key }) => numberOf(key))
      .filter((number) => this.#claims.has(number));
    this.#candidates.add(topics, listings, revision);
    await this.#claim(seat, wish, claimed);
    return withdrawn;
  }

  async claims(seat: string): Promise<Claimed[]> {
    const { keys, gateway } = this.#store;
    this.#use(seat);
    const found = await gateway.read([
      list(keys.claim()),
      list(keys.lot()),
      list(keys.back(), { keysOnly: true }),
    ]);
    const [alone, lots, back] = found.answers.map(({ entries }) => entries) as [Entry[], Entry[], Entry[]];
    const withdrawn = new Set(back.map(({ key }) => numberOf(key)));
    const claims: Claim[] = [];
    const mine = alone.filter(({ value }) => readOwned(value).seat === seat);
    for (const some of batches(mine, [OFFERS_PAGE], () => [1])) {
      const drafts = some.map(({ key, value }) => ({ number: numberOf(key), ...readClaim(value) }));
      const { answers } = await gateway.read(
        drafts.map(({ owner, number }) => get(keys.offer(owner, number))),
      );
      for (const [n, draft] of drafts.entries())
        for (const { value } of answers[n]!.entries)
          claims.push(claimOf({ ...draft, lot: undefined }, value));
    }
    for (const one of lots.map((entry) => readLot(entry)).filter(({ claimant }) => claimant === seat)) {
      const { answers } = await gateway.read([getOffers(keys, one)]);
      claims.push(...claimsOf({ ...one, left: new Set(one.left), open: new Set() }, answers[0]!.entries));
    }
    this.#claims.clear();
    for (const claim of claims) {
      this.#claims.set(claim.number, claim);
      // The answer was lost that would have said so: to claim it as it is settled would write its key twice.
      this.#candidates.remove(topicOf(claim.head), claim.lot?.first ?? claim.number);
    }
    return claims.map((claim) => claimedOf(this.#store, claim, withdrawn.has(claim.number)));
  }

  async refuse(seat: string, refused: readonly Refused[]): Promise<void> {
    const { keys, gateway } = this.#store;
    this.#use(seat);
    // Each once: etcd writes a key only once in a question.
    const last = new Map<number, Refused>();
    for (const one of refused)
      if (one.refusal !== undefined || !last.has(one.number)) last.set(one.number, one);
    const known = [...last].flatMap(([number, { refusal, isOpen }]) => {
      const claim = this.#claims.get(number);
      return claim === undefined ? [] : [{ claim, refusal, isOpen }];
    });
    for (const some of batches(known, [REFUSED], () => [1])) {
      const notes = await gateway.read(
        some.map(({ claim: { owner, number } }) => get(keys.note(owner, number))),
      );
      const released = some.map(({ claim, refusal, isOpen }, n) => {
        const [entry] = notes.answers[n]!.entries;
        const before = entry === undefined ? undefined : (JSON.parse(entry.value.toString()) as Note);
        const by = before?.refusedBy ?? [];
        const reason = refusal ?? before?.refusal;
        const note: Note = {
          deaths: before?.deaths ?? 0,
          refusedBy: isOpen || by.includes(seat) ? by : [...by, seat],
          ...(reason === undefined ? {} : { refusal: reason }),
          fence: claim.fence,
        };
        return { claim, operations: releases(keys, claim, note) };
      });
      const operations = released
        .filter(({ claim }) => claim.lot === undefined)
        .map(({ claim: { number }, operations: all }) =>
          nested(beginsWith(keys.claim(number), seat), [remove(keys.claim(number)), ...all]),
        );
      for (const lot of new Set(some.flatMap(({ claim }) => claim.lot ?? []))) {
        const leaving = released.filter(({ claim }) => claim.lot === lot);
        for (const { claim } of leaving) {
          lot.open.delete(claim.number);
          lot.left.add(claim.number);
        }
        const key = keys.lot(lot.owner, lot.first);
        const rest = lot.open.size === 0 ? remove(key) : put(key, lotValue(seat, lot));
        operations.push(nested(beginsWith(key, seat), [rest, ...leaving.flatMap((one) => one.operations)]));
      }
      const bells = [...new Set(some.map(({ claim }) => keys.bell(claim.owner)))].slice(0, MOST_OWNERS);
      await gateway.txn(
        [],
        [...operations, ...[...bells, keys.offerBell].map((key) => put(key, ""))],
        [],
        true,
      );
      for (const { claim } of some) this.#claims.delete(claim.number);
    }
  }

  /** A process may get another seat, when it has lost one. */
  #use(seat: string): void {
    if (this.#seat === seat) return;
    this.#seat = seat;
    this.#claims.clear();
  }

  /** Claims what is on offer. If others have been faster everywhere, what is left. */
  async #claim(seat: string, wish: Wish, claimed: Claimed[]): Promise<void> {
    for (let isTrying = true; isTrying && claimed.length === 0;) {
      isTrying = false;
      const choices = this.#candidates.choose(seat, wish);
      for (const some of batches(choices, [BATCH], (choice) => [costOf(choice)])) {
        isTrying = (await this.#claimSome(seat, some, claimed)) || isTrying;
      }
    }
  }

  /** Resolves with whether fewer candidates are left. */
  async #claimSome(seat: string, some: readonly Choice[], claimed: Claimed[]): Promise<boolean> {
    const { keys, gateway } = this.#store;
    const drafts = some.map((choice) => claimDraft(keys, seat, choice));
    const { succeeded, answers } = await gateway.txn(
      [isPresent(keys.seat(seat))],
      drafts.map(({ operation }) => operation),
    );
    return succeeded && this.#received(drafts, answers, claimed);
  }

  /** Returns whether fewer candidates are left. */
  #received(drafts: readonly ClaimDraft[], answers: readonly Answer[], claimed: Claimed[]): boolean {
    let isLess = false;
    for (const [n, { candidate, claims }] of drafts.entries()) {
      const { succeeded: isMine, answers: inner } = answers[n]!.txn!;
      // One that its owner wants back stays, as its owner may die.
      if (!isMine && candidate.isAlone && inner[0]!.entries.length > 0 && inner[1]!.entries.length === 0)
        continue;
      this.#candidates.remove(candidate.topic, candidate.offers[0]![0]);
      isLess = true;
      if (!isMine) continue;
      const arrived = claims(inner);
      for (const claim of arrived) {
        this.#claims.set(claim.number, claim);
        claimed.push(claimedOf(this.#store, claim, false));
      }
      // Its owner had taken all of it back.
      if (arrived.length === 0)
        this.#empty.push(this.#store.keys.lot(candidate.owner, candidate.offers[0]![0]));
    }
    return isLess;
  }

  async #removeEmpty(seat: string): Promise<void> {
    const empty = this.#empty;
    if (empty.length === 0) return;
    const operations = empty.map((key) => nested(beginsWith(key, seat), [remove(key)]));
    await this.#store.gateway.txn([], operations, [], true);
    this.#empty = [];
  }

  async #settle(
    seat: string,
    part: readonly Settling[],
    choices: readonly Choice[],
    reading: readonly Operation[],
    settled: number[],
    claimed: Claimed[],
  ): Promise<{ entries: readonly Answer[]; revision: number }> {
    const { keys, gateway } = this.#store;
    const owners = new Set(part.map(({ claims: [first] }) => first!.owner));
    const bells = [...owners].slice(0, MOST_OWNERS).map((owner) => put(keys.bell(owner), ""));
    const questions = batches(reading, [READ], () => [1]).map((some) => nested([], some));
    const drafts = choices.map((choice) => claimDraft(keys, seat, choice));
    const isReading = part.length === 0 && drafts.length === 0;
    const writes = [...part, ...drafts].map(({ operation }) => operation);
    const { answers, revision, succeeded } = await gateway.txn(
      isReading ? [] : [isPresent(keys.seat(seat))],
      [...writes, ...bells, ...questions],
      questions,
      isReading,
    );
    const failed: Claim[] = [];
    for (const [n, { claims }] of part.entries()) {
      if (succeeded && answers[n]!.txn!.succeeded) this.#settled(claims, settled);
      else if (succeeded && claims[0]!.lot !== undefined) failed.push(...claims);
    }
    if (succeeded) this.#received(drafts, answers.slice(part.length), claimed);
    // One of the lot was withdrawn.
    for (const some of batches(failed, [MOST_ALONE], () => [1])) await this.#settleApart(seat, some, settled);
    const read = answers.slice(succeeded ? writes.length + bells.length : 0);
    return { entries: read.flatMap(({ txn }) => txn!.answers), revision };
  }

  async #settleApart(seat: string, claims: readonly Claim[], settled: number[]): Promise<void> {
    const { keys, gateway } = this.#store;
    const bells = [...new Set(claims.map(({ owner }) => keys.bell(owner)))].slice(0, MOST_OWNERS);
    const { succeeded, answers } = await gateway.txn(
      [isPresent(keys.seat(seat))],
      [...claims.map((claim) => settleOne(keys, seat, claim)), ...bells.map((key) => put(key, ""))],
    );
    if (!succeeded) return;
    this.#settled(
      claims.filter((_, n) => answers[n]!.txn!.succeeded),
      settled,
    );
  }

  #settled(claims: readonly Claim[], settled: number[]): void {
    for (const { number, lot } of claims) {
      settled.push(number);
      this.#claims.delete(number);
      lot?.open.delete(number);
    }
  }
}

/** Owners whose bells are rung in one question. The others look again by themselves. */
const MOST_OWNERS = 10;

/** What one question reads, within it. */
const READ = 40;

/** Refusals of one question. */
const REFUSED = 40;

/** Offers of one answer, with their states. */
const OFFERS_PAGE = 100;
