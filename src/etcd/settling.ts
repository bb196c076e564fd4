import { topicOf } from "../hosts/names.js";
import { batches } from "../util/batches.js";
import type { Claim, ClaimedLot } from "./claim.js";
import { MOST_LOTS } from "./claiming.js";
import { ownedBy, padded, type Keys } from "./keys.js";
import { doneValue, removeOffers } from "./lots.js";
import {
  areAbsent,
  beginsWith,
  isAbsent,
  nested,
  put,
  remove,
  type Condition,
  type Operation,
} from "./txn.js";

/** Offers that are settled at once. */
export interface Settling {
  readonly claims: readonly Claim[];
  readonly operation: Operation;
}

/** In questions. */
export function settlingsOf(keys: Keys, seat: string, claims: readonly Claim[]): Settling[][] {
  const alone = claims
    .filter(({ lot }) => lot === undefined)
    .map((claim): Settling => ({ claims: [claim], operation: settleOne(keys, seat, claim) }));
  const lots = [...new Set(claims.flatMap(({ lot }) => lot ?? []))].map((lot): Settling => {
    const some = claims.filter((claim) => claim.lot === lot).toSorted((a, b) => a.number - b.number);
    return { claims: some, operation: settleLot(keys, seat, lot, some) };
  });
  // A transaction of etcd has few operations; what is in one of them counts with those beside it.
  return [...batches(alone, [MOST_ALONE], () => [1]), ...batches(lots, [MOST_LOTS], () => [1])];
}

/** Settles one offer, which was claimed alone or in a lot. */
export function settleOne(keys: Keys, seat: string, claim: Claim): Operation {
  const { number, owner, head, lot } = claim;
  const claimed = lot === undefined ? keys.claim(number) : keys.lot(owner, lot.first);
  const alone = [
    keys.claim(number),
    keys.list(topicOf(head), owner, number, true),
    keys.expiry(number),
    keys.note(owner, number),
  ];
  const gone = [keys.offer(owner, number), ...(lot === undefined ? alone : [])].map((key) => remove(key));
  return nested(
    [...beginsWith(claimed, seat), isAbsent(keys.back(owner, number)), ...isOwners(keys, claim)],
    [...gone, put(keys.done(owner, number), doneValue(seat, [number])), ...moves(keys, seat, claim)],
  );
}

function settleLot(keys: Keys, seat: string, lot: ClaimedLot, claims: readonly Claim[]): Operation {
  const { owner } = lot;
  const key = keys.lot(owner, lot.first);
  const numbers = claims.map(({ number }) => number);
  const [first, last] = [numbers[0]!, numbers.at(-1)!];
  return nested(
    [
      ...beginsWith(key, seat),
      areAbsent(keys.back(owner, first), keys.back(owner, last)),
      ...claims.flatMap((claim) => isOwners(keys, claim)),
    ],
    [
      ...removeOffers(keys, owner, numbers),
      ...(lot.open.size === numbers.length ? [remove(key)] : []),
      put(keys.done(owner, first), doneValue(seat, numbers)),
      ...claims.flatMap((claim) => moves(keys, seat, claim)),
    ],
  );
}

/** Whether a unit is still its owner's. */
function isOwners(keys: Keys, { owner, fence, head }: Claim): Condition[] {
  const unit = keys.unitOf(head);
  return unit === undefined ? [] : beginsWith(unit, owner, `${owner} ${padded(fence)}`);
}

function moves(keys: Keys, seat: string, { fence, head }: Claim): Operation[] {
  const unit = keys.unitOf(head);
  return unit === undefined ? [] : [put(unit, ownedBy(seat, fence, head.id))];
}

/** Offers that one question settles one by one. */
export const MOST_ALONE = 60;
