import type { Candidate, Choice } from "./candidates.js";
import { claimOf, claimsOf, type Claim, type ClaimedLot } from "./claim.js";
import { ownedBy, type Keys } from "./keys.js";
import { getOffers, lotValue } from "./lots.js";
import { BATCH } from "./store.js";
import {
  get,
  getName,
  isAbsent,
  isPresent,
  nested,
  put,
  remove,
  type Answer,
  type Operation,
} from "./txn.js";

/** What claims a candidate. */
export interface ClaimDraft {
  readonly candidate: Candidate;
  readonly operation: Operation;
  /** What was claimed, by the answers. */
  readonly claims: (answers: readonly Answer[]) => Claim[];
}

/** @param seat that claims */
export function claimDraft(keys: Keys, seat: string, choice: Choice): ClaimDraft {
  return choice.candidate.isAlone ? claimOne(keys, seat, choice) : claimLot(keys, seat, choice);
}

function claimOne(keys: Keys, seat: string, { candidate }: Choice): ClaimDraft {
  const { owner, offers, fence } = candidate;
  const [number] = offers[0]!;
  const [claim, offer] = [keys.claim(number), keys.offer(owner, number)];
  const draft = { number, owner, fence: fence + 1, lot: undefined };
  return {
    candidate,
    operation: nested(
      [isPresent(offer), isAbsent(claim), isAbsent(keys.back(owner, number))],
      [put(claim, `${ownedBy(seat, fence + 1)} ${JSON.stringify(owner)}`), get(offer)],
      [getName(offer), getName(claim)],
    ),
    claims: (answers) => [claimOf(draft, answers[1]!.entries[0]!.value)],
  };
}

/** Claims a lot. What this process does not want of it leaves it. */
function claimLot(keys: Keys, seat: string, { candidate, count }: Choice): ClaimDraft {
  const { key: listed, topic, owner, offers, fence, at } = candidate;
  const rest = offers.slice(count);
  const lot: ClaimedLot = {
    owner,
    first: offers[0]![0],
    last: offers.at(-1)![0],
    fence: fence + 1,
    left: new Set(rest.map(([number]) => number)),
    open: new Set(),
  };
  const leaving = rest.map(([number, bytes]) =>
    put(keys.list(topic, owner, number, true), JSON.stringify({ at, fence, offers: [[number, bytes]] })),
  );
  const wanted = { ...lot, last: offers[count - 1]![0] };
  return {
    candidate,
    operation: nested(
      [isPresent(listed)],
      [
        getOffers(keys, wanted),
        remove(listed),
        put(keys.lot(owner, lot.first), lotValue(seat, lot)),
        ...leaving,
      ],
    ),
    claims: (answers) => claimsOf(lot, answers[0]!.entries),
  };
}

/** Whether all of a lot is to be claimed. */
export function isWholeLot({ candidate: { isAlone, offers }, count }: Choice): boolean {
  return !isAlone && count === offers.length;
}

/** The operations of a transaction count with those of each one within it: a lot that is claimed in part has many. */
export function costOf({ candidate: { isAlone, offers }, count }: Choice): number {
  if (isAlone) return 1;
  return count < offers.length ? BATCH / 2 : BATCH / MOST_LOTS;
}

/** Lots of one question: etcd counts them with the conditions of each. */
export const MOST_LOTS = 8;
