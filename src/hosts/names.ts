import { createHash } from "node:crypto";

/**
 * A label, a kind or an id as an engine keeps it: an index of PostgreSQL takes no more than 2,704 bytes, and a text no half of a
 * surrogate pair.
 */
export function storedName(name: string): string {
  if (name.length <= LONGEST && Buffer.from(name).toString() === name && !name.startsWith(HASHED))
    return name;
  return `${HASHED}${createHash("sha256").update(Buffer.from(name, "utf16le")).digest("hex")}`;
}

/** The whole name, as a text that every engine takes. */
export function wholeName(name: string): string {
  return JSON.stringify(name);
}

export function fromWholeName(stored: string): string {
  return JSON.parse(stored) as string;
}

/**
 * How seats and wishes name the parcels of a kind and label. Of a unit it is its kind, as the directory has it, which is the
 * label of its parcels; of others also the kind of the parcel.
 */
export function topicOf({ kind, label }: { readonly kind: string; readonly label: string }): string {
  return kind === UNIT ? storedName(label) : `${HASHED}${kind}${HASHED}${storedName(label)}`;
}

/** The id of the unit that a parcel carries, as an engine keeps it; undefined if it carries none. */
export function unitOf({ kind, id }: { readonly kind: string; readonly id: string }): string | undefined {
  return kind === UNIT ? storedName(id) : undefined;
}

/** The kind of the parcels that carry units: the directory has an owner for each. */
const UNIT = "unit";

/** Characters, of at most four bytes each. */
const LONGEST = 200;

/** No stored name begins with it that is not hashed. */
const HASHED = "#";
