import type { Draft } from "../hosts/engine.js";
import { topicOf } from "../hosts/names.js";
import { batches } from "../util/batches.js";
import { contentOf, type Listing } from "./content.js";
import { padded, type Keys } from "./keys.js";
import { lotSize } from "./lots.js";
import { BATCH, type Store } from "./store.js";
import { beginsWith, nested, put, type Condition, type Operation } from "./txn.js";

/** Drafts of one topic that are a lot, or drafts that are each claimed alone. */
export interface Part {
  readonly drafts: readonly Draft[];
  readonly isLot: boolean;
}

/** What is offered in lots, and alone; each topic in its order. The parts of one question are all lots, or all alone. */
export function questionsOf(store: Store, drafts: readonly Draft[]): Part[][] {
  const topics = new Map<string, Draft[]>();
  for (const draft of drafts) {
    const topic = topicOf(draft.parcel);
    topics.set(topic, [...(topics.get(topic) ?? []), draft]);
  }
  const lots = [...topics].flatMap(([topic, all]) => {
    const size = lotSize(store.takersOf(topic).length);
    return batches(all.filter(mayShare), [size], () => [1]).map((some) => ({ drafts: some, isLot: true }));
  });
  const rest = [...topics.values()].flat().filter((draft) => !mayShare(draft));
  return [...batches(lots, [MOST_LOTS], () => [1]), ...apart(rest)];
}

/** Drafts that are claimed one by one. */
export function apart(drafts: readonly Draft[]): Part[][] {
  return batches(drafts, [BATCH], () => [1]).map((some) => [{ drafts: some, isLot: false }]);
}

function isOwn(keys: Keys, seat: string, { parcel, fence }: Draft): Condition[] {
  const unit = keys.unitOf(parcel);
  return unit === undefined ? [] : beginsWith(unit, seat, `${seat} ${padded(fence)}!`);
}

export function makeLot(
  store: Store,
  seat: string,
  listed: string,
  drafts: readonly Draft[],
  numbers: readonly number[],
  at: number,
): Operation {
  const { keys } = store;
  const fence = store.highest(...drafts.map((draft) => draft.fence));
  const offers = drafts.map(({ parcel: { body } }, n) => [numbers[n]!, body.length] as const);
  return nested(
    drafts.flatMap((draft) => isOwn(keys, seat, draft)),
    [
      put(listed, JSON.stringify({ at, fence, offers } satisfies Listing)),
      ...drafts.map(({ parcel }, n) => put(keys.offer(seat, numbers[n]), contentOf(parcel, at))),
    ],
  );
}

/** Offers something that is to be claimed alone. */
export function makeAlone(store: Store, seat: string, draft: Draft, number: number, at: number): Operation {
  const { keys } = store;
  const { parcel } = draft;
  const { ttl } = parcel;
  const key = keys.list(topicOf(parcel), seat, number, true);
  const expires = ttl === undefined ? {} : { expires: at + ttl };
  const fence = store.highest(draft.fence);
  const listing: Listing = { at, fence, offers: [[number, parcel.body.length]], ...expires };
  const operations = [
    put(keys.offer(seat, number), contentOf(parcel, at)),
    put(key, JSON.stringify(listing)),
  ];
  if (ttl !== undefined)
    operations.push(
      put(
        keys.expiry(number),
        JSON.stringify({ expires: at + ttl, offer: keys.offer(seat, number), list: key }),
      ),
    );
  return nested(isOwn(keys, seat, draft), operations);
}

/** Whether an offer may be claimed with others. What may be parked outlives them. */
export function mayShare({ parcel: { ttl } }: Draft): boolean {
  return ttl === undefined;
}

/** Lots of one question: etcd counts them with the conditions of each. */
const MOST_LOTS = 20;
