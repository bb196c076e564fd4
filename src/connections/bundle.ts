import type { Parcel } from "../exchange/parcel.js";
import { CONNECTION_KIND, textOf, type ConnectionParts } from "./connection-parcel.js";
import type { GuardedAdapter } from "./guarded-adapter.js";

/*
 * A bundle is one parcel with several connections that become dormant in the successor. To encode, check, settle and adopt a
 * parcel for each of thousands of idle connections would take most of the time of a move.
 */

/** The kind of the parcels that carry bundles. A successor that takes no such parcels gets the connections one by one. */
export const BUNDLE_KIND = "connections";

/** A frozen connection that can travel in a bundle. */
export interface Bundled {
  readonly kind: typeof BUNDLE_KIND;
  readonly label: string;
  readonly adapter: GuardedAdapter;
  /** JSON. */
  readonly state: string;
  readonly fd: number;
}

/**
 * Undefined for a connection that needs a parcel of its own.
 *
 * @throws if the state cannot be JSON
 */
export function bundled(
  parts: Omit<ConnectionParts, "id"> & { adapter: GuardedAdapter },
): Bundled | undefined {
  const { label, adapter, state, unread, records, fd } = parts;
  if (!adapter.sleeps || unread !== undefined || records !== undefined) return undefined;
  const text = JSON.stringify(state) as string | undefined;
  if (text === undefined || text.length > LARGEST) return undefined;
  return { kind: BUNDLE_KIND, label, adapter, state: text, fd };
}

/** A parcel, and the frozen connections that it carries. */
interface Packed<T> {
  readonly parcel: Parcel;
  readonly members: readonly T[];
}

/**
 * Packs frozen connections in as few parcels as possible: neighbors of one listener and adapter share one.
 *
 * @param nextId of a bundle's parcel
 */
export function pack<T extends { readonly content: Parcel | Bundled }>(
  frozen: readonly T[],
  nextId: () => number,
): Packed<T>[] {
  const packed: Packed<T>[] = [];
  let members: Bundleable<T>[] = [];
  for (const one of frozen) {
    if (!isBundleable(one)) packed.push({ parcel: one.content as Parcel, members: [one] });
    else if (members.length > 0 && mayShare(members[0]!.content, one.content)) members.push(one);
    else {
      if (members.length > 0) packed.push({ parcel: encode(members, nextId()), members });
      members = [one];
    }
  }
  if (members.length > 0) packed.push({ parcel: encode(members, nextId()), members });
  return packed;
}

type Bundleable<T> = T & { readonly content: Bundled };

function isBundleable<T extends { readonly content: Parcel | Bundled }>(one: T): one is Bundleable<T> {
  return "adapter" in one.content;
}

function mayShare(one: Bundled, other: Bundled): boolean {
  return one.label === other.label && one.adapter === other.adapter;
}

/** A single one gets the parcel that every successor knows. */
function encode(members: readonly { readonly content: Bundled }[], id: number): Parcel {
  const { label, adapter } = members[0]!.content;
  let states = "";
  const fds: number[] = [];
  for (const { content } of members) {
    states += fds.length === 0 ? content.state : `,${content.state}`;
    fds.push(content.fd);
  }
  const isAlone = members.length === 1;
  const member = isAlone ? `"state":${states}` : `"states":[${states}]`;
  return {
    kind: isAlone ? CONNECTION_KIND : BUNDLE_KIND,
    label,
    id: String(id),
    version: adapter.version,
    codec: "json",
    body: Buffer.from(`{"protocol":${JSON.stringify(adapter.name)},${member}}`),
    fds,
  };
}

export function decodeBundle(body: Uint8Array): { protocol: string; states: unknown[] } {
  return JSON.parse(textOf(body)) as { protocol: string; states: unknown[] };
}

/** Characters of a state. */
const LARGEST = 1_024;
