import type { Refusal } from "../exchange/parcel.js";
import type { Claimed, StepResult, Wish } from "../hosts/engine.js";
import { batches } from "../util/batches.js";
import { AwayError } from "./away-error.js";
import { Candidates, type Candidate } from "./candidates.js";
import { readBody, readHead, type Head, type Note } from "./content.js";
import { padded, numberOf, ownedBy, readOwned, type Keys } from "./keys.js";
import { BATCH, type Store } from "./store.js";
import {
  beginsWith,
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
import { topicOf } from "../hosts/names.js";

/** An offer that this seat has claimed. */
interface Claim {
  readonly number: number;
  readonly owner: string;
  readonly fence: number;
  readonly head: Head;
  readonly body: Buffer;
  /** Whether the offer has a list of its own, or may have. */
  readonly isAlone: boolean;
}

/** What this seat takes from others. */
export class Claims {
  readonly #store: Store;
  readonly #candidates: Candidates;
  /** Of one seat. */
  readonly #claims = new Map<number, Claim>();
  #seat = "";

  constructor(store: Store) {
    this.#store = store;
    this.#candidates = new Candidates(store);
  }

  async step(seat: string, settle: readonly number[], wish: Wish): Promise<StepResult> {
    const { keys, gateway } = this.#store;
    this.#use(seat);
    const settled: number[] = [];
    let withdrawn: number[] = [];
    const topics = [...wish.topics.keys()];
    const parts = settle.length === 0 ? [[]] : batches(settle, [BATCH], () => [1]);
    for (const [index, some] of parts.entries()) {
      const known = some.map((number) => this.#claims.get(number)).filter((claim) => claim !== undefined);
      const owners = new Set(known.map(({ owner }) => owner));
      const isLast = index === parts.length - 1;
      const reading = isLast
        ? [list(keys.back(), { keysOnly: true }), ...this.#candidates.questions(topics)]
        : [];
      const operations = known.map((claim) => this.#settle(seat, claim));
      const bells = [...owners].slice(0, MOST_OWNERS).map((owner) => put(keys.bell(owner), ""));
      const { answers, revision, succeeded } = await gateway.txn(
        known.length === 0 ? [] : [isPresent(keys.seat(seat))],
        [...operations, ...bells, ...reading],
        reading,
        known.length === 0,
      );
      for (const [n, { number }] of known.entries()) {
        if (!succeeded || answers[n]!.txn?.succeeded !== true) continue;
        settled.push(number);
        this.#claims.delete(number);
      }
      if (!isLast) continue;
      const [back, ...listings] = answers.slice(succeeded ? operations.length + bells.length : 0);
      withdrawn = back!.entries.map(({ key }) => numberOf(key)).filter((number) => this.#claims.has(number));
      this.#candidates.add(topics, listings, revision);
    }
    return { settled, withdrawn, claimed: await this.#claim(seat, wish) };
  }

  async claims(seat: string): Promise<Claimed[]> {
    const { keys, gateway } = this.#store;
    this.#use(seat);
    const found = await gateway.read([list(keys.claim()), list(keys.back(), { keysOnly: true })]);
    const [all, back] = found.answers.map(({ entries }) => entries) as [Entry[], Entry[]];
    const mine = all.filter(({ value }) => readOwned(value).seat === seat);
    const withdrawn = new Set(back.map(({ key }) => numberOf(key)));
    const claims: Claim[] = [];
    for (const some of batches(mine, [OFFERS_PAGE], () => [1])) {
      const drafts = some.map(({ key, value }) => ({ number: numberOf(key), ...readClaim(value) }));
      const { answers } = await gateway.read(
        drafts.map(({ owner, number }) => get(keys.offer(owner, number))),
      );
      for (const [n, draft] of drafts.entries()) {
        const [offer] = answers[n]!.entries;
        if (offer !== undefined) claims.push(claimOf({ ...draft, isAlone: true }, offer.value));
      }
    }
    this.#claims.clear();
    for (const claim of claims) this.#claims.set(claim.number, claim);
    return claims.map((claim) => this.#claimed(claim, withdrawn.has(claim.number)));
  }

  async refuse(
    seat: string,
    refused: readonly { number: number; refusal: Refusal | undefined }[],
  ): Promise<void> {
    const { keys, gateway } = this.#store;
    this.#use(seat);
    // Each once: etcd writes a key only once in a question.
    const reasons = new Map<number, Refusal | undefined>();
    for (const { number, refusal } of refused) reasons.set(number, refusal ?? reasons.get(number));
    const known = [...reasons].flatMap(([number, refusal]) => {
      const claim = this.#claims.get(number);
      return claim === undefined ? [] : [{ claim, refusal }];
    });
    for (const some of batches(known, [REFUSED], () => [1])) {
      const notes = await gateway.read(
        some.map(({ claim: { owner, number } }) => get(keys.note(owner, number))),
      );
      const operations = some.map(({ claim, refusal }, n) => {
        const [entry] = notes.answers[n]!.entries;
        const before = entry === undefined ? undefined : (JSON.parse(entry.value.toString()) as Note);
        const by = before?.refusedBy ?? [];
        const reason = refusal ?? before?.refusal;
        const note: Note = {
          deaths: before?.deaths ?? 0,
          refusedBy: refusal === undefined || by.includes(seat) ? by : [...by, seat],
          ...(reason === undefined ? {} : { refusal: reason }),
          fence: claim.fence,
        };
        return nested(beginsWith(keys.claim(claim.number), seat), freed(keys, claim, note));
      });
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
  async #claim(seat: string, wish: Wish): Promise<Claimed[]> {
    const claimed: Claimed[] = [];
    for (let isTrying = true; isTrying && claimed.length === 0;) {
      isTrying = false;
      for (const some of batches(this.#candidates.choose(seat, wish), [BATCH], () => [1])) {
        try {
          isTrying = (await this.#claimSome(seat, some, claimed)) || isTrying;
        } catch (error) {
          // What was settled, or claimed before, is done.
          if (!(error instanceof AwayError) || error.isAmbiguous) throw error;
          return claimed;
        }
      }
    }
    return claimed;
  }

  /** Resolves with whether fewer candidates are left. */
  async #claimSome(seat: string, some: readonly Candidate[], claimed: Claimed[]): Promise<boolean> {
    const { keys, gateway } = this.#store;
    const operations = some.map(({ number, owner, fence }): Operation => {
      const claim = keys.claim(number);
      const offer = keys.offer(owner, number);
      return nested(
        [isPresent(offer), isAbsent(claim), isAbsent(keys.back(owner, number))],
        [put(claim, `${ownedBy(seat, fence + 1)} ${JSON.stringify(owner)}`), get(offer)],
        [getName(offer), getName(claim)],
      );
    });
    const { succeeded, answers } = await gateway.txn([isPresent(keys.seat(seat))], operations);
    if (!succeeded) return false;
    let isLess = false;
    for (const [n, one] of some.entries()) {
      const { succeeded: isMine, answers: inner } = answers[n]!.txn!;
      // One that its owner wants back stays, as its owner may die.
      if (!isMine && inner[0]!.entries.length > 0 && inner[1]!.entries.length === 0) continue;
      this.#candidates.remove(one);
      isLess = true;
      if (!isMine) continue;
      const claim = claimOf({ ...one, fence: one.fence + 1 }, inner[1]!.entries[0]!.value);
      this.#claims.set(claim.number, claim);
      claimed.push(this.#claimed(claim, false));
    }
    return isLess;
  }

  #settle(seat: string, { number, owner, fence, head, isAlone }: Claim): Operation {
    const { keys } = this.#store;
    const unit = keys.unitOf(head);
    const conditions = [...beginsWith(keys.claim(number), seat), isAbsent(keys.back(owner, number))];
    const alone = [
      keys.list(topicOf(head), owner, number, true),
      keys.expiry(number),
      keys.note(owner, number),
    ];
    const gone = [keys.claim(number), keys.offer(owner, number), ...(isAlone ? alone : [])].map((key) =>
      remove(key),
    );
    if (unit !== undefined)
      return nested(
        [...conditions, ...beginsWith(unit, owner, `${owner} ${padded(fence)}`)],
        [...gone, put(unit, ownedBy(seat, fence, head.id))],
      );
    return nested(conditions, [...gone, put(keys.done(owner, number), ownedBy(seat, fence))]);
  }

  #claimed({ number, owner, fence, head, body }: Claim, isWithdrawn: boolean): Claimed {
    const { kind, label, id, version, codec, at } = head;
    return {
      number,
      parcel: { kind, label, id, version, codec, body, fds: [] },
      fence,
      seat: owner,
      from: this.#store.peerOf(owner),
      age: Math.max(0, this.#store.clock.earliest - at),
      isWithdrawn,
    };
  }
}

/** Frees a claim, for others. */
export function freed(
  keys: Keys,
  {
    number,
    owner,
    head,
    body,
  }: Pick<Claim, "number" | "owner" | "head"> & { readonly body: { readonly length: number } },
  note: Note,
): Operation[] {
  const { deaths, refusedBy, fence } = note;
  const expires = head.expires === undefined ? {} : { expires: head.expires };
  const listing = { at: head.at, fence, offers: [[number, body.length]], deaths, refusedBy, ...expires };
  return [
    remove(keys.claim(number)),
    put(keys.note(owner, number), JSON.stringify(note)),
    put(keys.list(topicOf(head), owner, number, true), JSON.stringify(listing)),
  ];
}

/** The owner of a claimed offer, and the fence of its claimant. */
export function readClaim(value: Buffer): { claimant: string; fence: number; owner: string } {
  const { seat, fence, name } = readOwned(value);
  return { claimant: seat, fence, owner: name! };
}

function claimOf({ number, owner, fence, isAlone }: Omit<Claim, "head" | "body">, content: Buffer): Claim {
  return { number, owner, fence, isAlone, head: readHead(content), body: readBody(content) };
}

/** Owners whose bells are rung in one question. The others look again by themselves. */
const MOST_OWNERS = 10;

/** Refusals of one question. */
const REFUSED = 80;

/** Offers of one answer, with their states. */
const OFFERS_PAGE = 100;
