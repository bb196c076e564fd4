import type { Claimed } from "../hosts/engine.js";
import { readBody, readHead, type Head } from "./content.js";
import { numberOf, readOwned } from "./keys.js";
import type { Lot } from "./lots.js";
import type { Store } from "./store.js";
import type { Entry } from "./txn.js";

/** An offer that this seat has claimed. */
export interface Claim {
  readonly number: number;
  readonly owner: string;
  readonly fence: number;
  readonly head: Head;
  readonly body: Buffer;
  /** Undefined if it was claimed alone. */
  readonly lot: ClaimedLot | undefined;
}

export interface ClaimedLot extends Lot {
  readonly left: Set<number>;
  /** Numbers that this process has neither settled nor given back. */
  readonly open: Set<number>;
}

/** As the hosts know it. */
export function claimedOf(
  store: Store,
  { number, owner, fence, head, body }: Claim,
  isWithdrawn: boolean,
): Claimed {
  const { kind, label, id, version, codec, at } = head;
  return {
    number,
    parcel: { kind, label, id, version, codec, body, fds: [] },
    fence,
    seat: owner,
    from: store.peerOf(owner),
    age: Math.max(0, store.clock.earliest - at),
    isWithdrawn,
  };
}

/** The owner of a claimed offer, and the fence of its claimant. */
export function readClaim(value: Buffer): { claimant: string; fence: number; owner: string } {
  const { seat, fence, name } = readOwned(value);
  return { claimant: seat, fence, owner: name! };
}

export function claimOf({ number, owner, fence, lot }: Omit<Claim, "head" | "body">, content: Buffer): Claim {
  return { number, owner, fence, lot, head: readHead(content), body: readBody(content) };
}

/** Of the offers that are there. */
export function claimsOf(lot: ClaimedLot, offers: readonly Entry[]): Claim[] {
  const { owner, fence } = lot;
  const own = offers.filter(({ key }) => !lot.left.has(numberOf(key)));
  for (const { key } of own) lot.open.add(numberOf(key));
  return own.map(({ key, value }) => claimOf({ number: numberOf(key), owner, fence, lot }, value));
}
