import { createHash } from "node:crypto";

/**
 * A label, a kind or an id as the database keeps it: an index takes no more than 2,704 bytes, and a text no half of a surrogate
 * pair.
 */
export function storedName(name: string): string {
  if (name.length <= LONGEST && Buffer.from(name).toString() === name && !name.startsWith(HASHED))
    return name;
  return `${HASHED}${createHash("sha256").update(Buffer.from(name, "utf16le")).digest("hex")}`;
}

/** The whole name, as a text that every database takes. */
export function wholeName(name: string): string {
  return JSON.stringify(name);
}

export function fromWholeName(stored: string): string {
  return JSON.parse(stored) as string;
}

/** Of a unit its kind, as the directory has it, which is the label of its parcels; of others also the kind of the parcel. */
export function topicOf({ kind, label }: { kind: string; label: string }): string {
  return kind === UNIT ? storedName(label) : `${HASHED}${kind}${HASHED}${storedName(label)}`;
}

export function unitOf({ kind, id }: { kind: string; id: string }): string | null {
  return kind === UNIT ? storedName(id) : null;
}

/** The channel of `listen` of a service: a name of at most 63 bytes. */
export function channelOf(service: string): string {
  return `handover_${createHash("sha256").update(service).digest("hex").slice(0, 32)}`;
}

/** Characters, of at most four bytes each. */
const LONGEST = 200;

/** No stored name begins with it that is not hashed. */
const HASHED = "#";

/** The kind of the parcels that carry units: the directory has an owner for each. */
const UNIT = "unit";
