import type { Wish } from "../hosts/engine.js";
import type { Listing } from "./content.js";
import { ALONE } from "./keys.js";
import type { Store } from "./store.js";
import { list, type Answer, type Operation } from "./txn.js";

/** A lot that this process may claim, or an offer that is claimed alone, as far as it knows. */
export interface Candidate {
  /** The key that lists it. */
  readonly key: string;
  readonly owner: string;
  readonly topic: string;
  /** Numbers, and bytes, in order. */
  readonly offers: readonly (readonly [number, number])[];
  readonly fence: number;
  readonly at: number;
  readonly expires: number | undefined;
  readonly refusedBy: readonly string[];
  readonly isAlone: boolean;
}

/** What is to be claimed of it: a number of its first offers. */
export interface Choice {
  readonly candidate: Candidate;
  readonly count: number;
}

/**
 * What is on offer, of the topics that this process takes. It reads each list once, and learns that an offer is gone when it claims
 * it: to read again what is on offer would cost more than to ask in vain.
 */
export class Candidates {
  readonly #store: Store;
  /** By their first number. */
  readonly #topics = new Map<string, { since: number; all: Map<number, Candidate> }>();

  constructor(store: Store) {
    this.#store = store;
  }

  /** Asks for the lists of topics that were not read. */
  questions(topics: readonly string[]): Operation[] {
    return topics.map((topic) => list(this.#store.keys.lists(topic), { since: this.#of(topic).since }));
  }

  /** @param revision of the store, when it answered */
  add(topics: readonly string[], answers: readonly Answer[], revision: number): void {
    for (const [n, topic] of topics.entries()) {
      const known = this.#of(topic);
      known.since = revision + 1;
      const { entries } = answers[n]!;
      for (const { key, value } of entries) {
        const { offers, fence, at, expires, refusedBy = [] } = JSON.parse(value.toString()) as Listing;
        const owner = key.split("/").at(-2)!;
        const isAlone = key.endsWith(ALONE);
        known.all.set(offers[0]![0], { key, owner, topic, offers, fence, at, expires, refusedBy, isAlone });
      }
      if (entries.length > 0) known.all = new Map([...known.all].toSorted(([a], [b]) => a - b));
    }
  }

  /** What is to be claimed now, in the order in which it was offered. */
  choose(seat: string, { topics, minAge, except }: Wish): Choice[] {
    const { clock } = this.#store;
    const chosen: Choice[] = [];
    for (const [topic, most] of topics) {
      const takers = this.#store.takersOf(topic);
      const rank = takers.filter((one) => one < seat).length;
      const own: Candidate[] = [];
      const rest: Candidate[] = [];
      let count = 0;
      for (const one of this.#of(topic).all.values()) {
        if (one.owner === seat || one.refusedBy.includes(seat)) continue;
        // What this process has given back is claimed alone.
        if (one.isAlone && except.has(one.offers[0]![0])) continue;
        // Their owner may know the clock better than this process.
        if (minAge > 0 && clock.earliest - one.at < minAge) continue;
        if (one.expires !== undefined && clock.latest >= one.expires) continue;
        // If all asked for the first ones, all but one would ask in vain.
        const isOwn = scattered(one.offers[0]![0]) % (takers.length + 1) === rank;
        (isOwn ? own : rest).push(one);
        if (isOwn) count += one.offers.length;
        if (count >= most) break;
      }
      chosen.push(...fit([...own, ...rest], most));
    }
    return chosen;
  }

  /** It is claimed. @param first the first of its numbers */
  remove(topic: string, first: number): void {
    this.#of(topic).all.delete(first);
  }

  #of(topic: string): { since: number; all: Map<number, Candidate> } {
    let known = this.#topics.get(topic);
    if (known === undefined) this.#topics.set(topic, (known = { since: 0, all: new Map() }));
    return known;
  }
}

/** As many of the first ones as there is room for; of the first a part, if it is larger. */
function fit(candidates: readonly Candidate[], most: number): Choice[] {
  const chosen: Choice[] = [];
  let left = most;
  let bytes = 0;
  for (const candidate of candidates) {
    const count = candidate.offers.length;
    bytes += candidate.offers.reduce((sum, [, size]) => sum + size, 0);
    if (chosen.length > 0 && (count > left || bytes > LARGEST_STEP)) break;
    chosen.push({ candidate, count: Math.min(count, left) });
    left -= count;
    if (left <= 0) break;
  }
  return chosen;
}

/** Spreads numbers that follow each other in equal steps. */
function scattered(number: number): number {
  return Math.imul(number, 0x9e3779b1) >>> 16;
}

/** Bytes of the states of one step, unless the first is larger. */
const LARGEST_STEP = 4 * 1024 * 1024;
