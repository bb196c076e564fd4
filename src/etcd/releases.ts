import { topicOf } from "../hosts/names.js";
import type { Head, Note } from "./content.js";
import type { Keys } from "./keys.js";
import { put, type Operation } from "./txn.js";

/** Lets others claim an offer, alone. */
export function releases(
  keys: Keys,
  { number, owner, head, body }: { number: number; owner: string; head: Head; body: { length: number } },
  note: Note,
): Operation[] {
  const { deaths, refusedBy, fence } = note;
  const expires = head.expires === undefined ? {} : { expires: head.expires };
  const listing = { at: head.at, fence, offers: [[number, body.length]], deaths, refusedBy, ...expires };
  return [
    put(keys.note(owner, number), JSON.stringify(note)),
    put(keys.list(topicOf(head), owner, number, true), JSON.stringify(listing)),
  ];
}
