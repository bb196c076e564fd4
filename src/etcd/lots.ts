import { numberOf, padded, type Keys } from "./keys.js";
import { getBetween, removeBetween, type Entry, type Operation } from "./txn.js";

/**
 * Offers of one topic that were made at once. They are claimed as a whole, as a key costs etcd more than the state of a unit. An offer
 * that its claimant gives back leaves the lot: it is claimed alone from then on.
 */
export interface Lot {
  readonly owner: string;
  readonly first: number;
  readonly last: number;
  /** Of whoever has claimed it. */
  readonly fence: number;
  /** Numbers that have left. */
  readonly left: ReadonlySet<number>;
}

/** The value of the key of a lot that is claimed. */
export function lotValue(claimant: string, { last, fence, left }: Lot): string {
  return `${claimant} ${padded(fence)} ${JSON.stringify({ last, left: [...left] })}`;
}

export function readLot({ key, value }: Entry): Lot & { readonly claimant: string } {
  const [, claimant, fence, rest] = /^(\S+) (\d+) ([^]*)$/.exec(value.toString())!;
  const { last, left } = JSON.parse(rest!) as { last: number; left: number[] };
  const owner = key.split("/").at(-2)!;
  return {
    owner,
    first: numberOf(key),
    last,
    fence: Number(fence),
    left: new Set(left),
    claimant: claimant!,
  };
}

/** Who has taken which offers. */
export function doneValue(claimant: string, numbers: readonly number[]): string {
  return `${claimant} ${JSON.stringify(numbers)}`;
}

export function readDone({ value }: Entry): { claimant: string; numbers: readonly number[] } {
  const [, claimant, numbers] = /^(\S+) ([^]*)$/.exec(value.toString())!;
  return { claimant: claimant!, numbers: JSON.parse(numbers!) as number[] };
}

/** The offers of a lot, and those that have left it and are still there. */
export function getOffers(keys: Keys, { owner, first, last }: Lot): Operation {
  return getBetween(keys.offer(owner, first), keys.offer(owner, last));
}

/** Removes offers of one owner. @param numbers in order: most follow each other */
export function removeOffers(keys: Keys, owner: string, numbers: readonly number[]): Operation[] {
  const spans: [number, number][] = [];
  for (const number of numbers) {
    const span = spans.at(-1);
    if (span !== undefined && span[1] === number - 1) span[1] = number;
    else spans.push([number, number]);
  }
  return spans.map(([first, last]) => removeBetween(keys.offer(owner, first), keys.offer(owner, last)));
}

/** Offers of a lot: what settles them requires two conditions for each, of at most 128 with those around it. */
export const LARGEST_LOT = 50;

/** Offers that the processes that take a topic share in one round: see {@link Engine.round}. */
export const ROUND = 200;

/** How many offers a lot has, for the number of processes that take its topic: each claims whole lots of its share. */
export function lotSize(takers: number): number {
  return Math.max(SMALLEST_LOT, Math.min(LARGEST_LOT, Math.floor(ROUND / (takers + 1) / 2)));
}

const SMALLEST_LOT = 3;
