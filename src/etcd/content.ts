import type { Parcel } from "../exchange/parcel.js";

/** What is kept of an offer beside the state. */
export interface Head {
  readonly kind: string;
  readonly label: string;
  readonly id: string;
  readonly version: number;
  readonly codec: string;
  /** When it was offered, and until when it may be taken, on the clock of etcd's hosts. */
  readonly at: number;
  readonly expires?: number;
}

/** The value of an offer: a line with the head, then the state. */
export function contentOf({ kind, label, id, version, codec, body, ttl }: Parcel, at: number): Buffer {
  const expires = ttl === undefined ? {} : { expires: at + ttl };
  const head: Head = { kind, label, id, version, codec, at, ...expires };
  return Buffer.concat([Buffer.from(`${JSON.stringify(head)}\n`), body]);
}

export function readHead(content: Buffer): Head {
  return JSON.parse(content.subarray(0, content.indexOf("\n")).toString()) as Head;
}

export function readBody(content: Buffer): Buffer {
  return content.subarray(content.indexOf("\n") + 1);
}

export function readNote({ value }: { readonly value: Buffer }): Note {
  return JSON.parse(value.toString()) as Note;
}

/** Offers that may be taken, as their key lists them: those of one topic that were made at once, or a single one. */
export interface Listing {
  readonly at: number;
  /** Until when, on the clock of etcd's hosts. */
  readonly expires?: number;
  /** The highest of their owner, or of the last that had one. */
  readonly fence: number;
  /** Numbers, and bytes. */
  readonly offers: readonly (readonly [number, number])[];
  readonly deaths?: number;
  readonly refusedBy?: readonly string[];
}

/** What is known of those that had an offer. */
export interface Note {
  readonly deaths: number;
  readonly refusedBy: readonly string[];
  readonly refusal?: { readonly code: string; readonly reason?: string };
  /** The last that was given with it. */
  readonly fence: number;
}
