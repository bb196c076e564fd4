import type { Wish } from "../hosts/engine.js";
import type { Listing } from "./content.js";
import { ALONE } from "./keys.js";
import type { Store } from "./store.js";
import { list, type Answer, type Operation } from "./txn.js";

/** An offer that this process may claim, as far as it knows. */
export interface Candidate {
  readonly number: number;
  readonly owner: string;
  readonly topic: string;
  readonly bytes: number;
  readonly fence: number;
  readonly at: number;
  readonly expires: number | undefined;
  readonly refusedBy: readonly string[];
  /** Whether it has a list of its own. */
  readonly isAlone: boolean;
}

/**
 * What is on offer, of the topics that this process takes. It reads each list once, and learns that an offer is gone when it claims
 * it: to read again what is on offer would cost more than to ask in vain.
 */
export class Candidates {
  readonly #store: Store;
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
        for (const [number, bytes] of offers)
          known.all.set(number, { number, owner, topic, bytes, fence, at, expires, refusedBy, isAlone });
      }
      if (entries.length > 0) known.all = new Map([...known.all].toSorted(([a], [b]) => a - b));
    }
  }

  /** What is to be claimed now, in the order in which it was offered. */
  choose(seat: string, { topics, minAge }: Wish): Candidate[] {
    const { clock, others } = this.#store;
    const chosen: Candidate[] = [];
    for (const [topic, most] of topics) {
      const takers = others
        .filter((one) => !one.draining && one.topics.includes(topic))
        .map((one) => one.seat);
      const rank = takers.filter((one) => one < seat).length;
      const own: Candidate[] = [];
      const rest: Candidate[] = [];
      for (const one of this.#of(topic).all.values()) {
        if (one.owner === seat || one.refusedBy.includes(seat)) continue;
        // Their owner may know the clock better than this process.
        if (minAge > 0 && clock.earliest - one.at < minAge) continue;
        if (one.expires !== undefined && clock.latest >= one.expires) continue;
        // If all asked for the first ones, all but one would ask in vain.
        (one.number % (takers.length + 1) === rank ? own : rest).push(one);
        if (own.length >= most) break;
      }
      let bytes = 0;
      for (const one of [...own, ...rest].slice(0, most)) {
        bytes += one.bytes;
        if (bytes > LARGEST_STEP && one !== chosen[0] && chosen.length > 0) break;
        chosen.push(one);
      }
    }
    return chosen;
  }

  /** It is claimed. */
  remove({ topic, number }: Candidate): void {
    this.#of(topic).all.delete(number);
  }

  #of(topic: string): { since: number; all: Map<number, Candidate> } {
    let known = this.#topics.get(topic);
    if (known === undefined) this.#topics.set(topic, (known = { since: 0, all: new Map() }));
    return known;
  }
}

/** Bytes of the states of one step, unless the first is larger. */
const LARGEST_STEP = 4 * 1024 * 1024;
