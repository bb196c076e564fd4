/** One question to etcd: conditions, and what is done if all of them hold, or if not. */

/** A key with its value, as etcd gives it. */
export interface Entry {
  readonly key: string;
  readonly value: Buffer;
  /** The revisions in which the key was made, and last changed. */
  readonly created: number;
  readonly changed: string;
}

export interface TxnResult {
  /** Whether the conditions held. */
  readonly succeeded: boolean;
  /** The revision of the store. */
  readonly revision: number;
  readonly answers: readonly Answer[];
}

/** The answer to one operation. */
export interface Answer {
  /** What was read. */
  readonly entries: readonly Entry[];
  /** Of a transaction within the transaction. */
  readonly txn: TxnResult | undefined;
}

export type Condition = Readonly<Record<string, unknown>>;
export type Operation = Readonly<Record<string, unknown>>;

export const isAbsent = (key: string): Condition => ({
  key: base64(key),
  target: "CREATE",
  create_revision: "0",
});
/** Whether no key from the first to the last is there. */
export const areAbsent = (first: string, last: string): Condition => ({
  ...isAbsent(first),
  range_end: base64(`${last}\0`),
});
/** Whether no key begins with `prefix`, which ends with a slash. */
export const areNone = (prefix: string): Condition => ({
  ...isAbsent(prefix),
  range_end: base64(endOf(prefix)),
});
export const isPresent = (key: string): Condition => ({ ...isAbsent(key), result: "GREATER" });
export const isUnchanged = ({ key, changed }: Entry): Condition => ({
  key: base64(key),
  target: "MOD",
  mod_revision: changed,
});
export const is = (key: string, value: string): Condition => ({
  key: base64(key),
  target: "VALUE",
  value: base64(value),
});
/** A key that is not there is neither below nor above. */
export const isBelow = (key: string, value: string): Condition => ({ ...is(key, value), result: "LESS" });
/** Whether the value begins with `word` and a space, and comes before `end`. */
export const beginsWith = (key: string, word: string, end = `${word}!`): Condition[] => [
  { ...is(key, `${word} `), result: "GREATER" },
  isBelow(key, end),
];

export const get = (key: string): Operation => ({ request_range: { key: base64(key) } });
export const getName = (key: string): Operation => ({ request_range: { key: base64(key), keys_only: true } });

/** All keys from the first to the last. */
export const getBetween = (first: string, last: string): Operation => ({
  request_range: { key: base64(first), range_end: base64(`${last}\0`) },
});

/** All keys that begin with `prefix`, which ends with a slash, in order. */
export function list(
  prefix: string,
  options: { after?: string; limit?: number; keysOnly?: boolean; since?: number } = {},
): Operation {
  const { after, limit, keysOnly, since } = options;
  const range = {
    key: base64(after === undefined ? prefix : `${after}\0`),
    range_end: base64(endOf(prefix)),
    ...(limit === undefined ? {} : { limit: String(limit) }),
    ...(keysOnly === undefined ? {} : { keys_only: keysOnly }),
    ...(since === undefined ? {} : { min_mod_revision: String(since) }),
  };
  return { request_range: range };
}

/** @param lease with which the key ends */
export function put(key: string, value: string | Uint8Array, lease?: string): Operation {
  const bound = lease === undefined ? {} : { lease };
  return { request_put: { key: base64(key), value: base64(value), ...bound } };
}

export const remove = (key: string): Operation => ({ request_delete_range: { key: base64(key) } });
export const removeBetween = (first: string, last: string): Operation => ({
  request_delete_range: { key: base64(first), range_end: base64(`${last}\0`) },
});
export const removeAll = (prefix: string): Operation => ({
  request_delete_range: { key: base64(prefix), range_end: base64(endOf(prefix)) },
});

/** A transaction within another one: it decides for itself, by what was there before all of it. */
export const nested = (
  compare: readonly Condition[],
  success: readonly Operation[],
  failure: readonly Operation[] = [],
): Operation => ({ request_txn: { compare, success, failure } });

export function base64(value: string | Uint8Array): string {
  return (
    typeof value === "string"
      ? Buffer.from(value)
      : Buffer.from(value.buffer, value.byteOffset, value.byteLength)
  ).toString("base64");
}

export function endOf(prefix: string): string {
  return `${prefix.slice(0, -1)}0`;
}

/** etcd leaves out what is zero, false or empty, and gives numbers of 64 bits as text. */
interface WireTxn {
  readonly header?: { readonly revision?: string };
  readonly succeeded?: boolean;
  readonly responses?: readonly {
    readonly response_range?: { readonly kvs?: readonly WireEntry[] };
    readonly response_txn?: WireTxn;
  }[];
}

interface WireEntry {
  readonly key: string;
  readonly value?: string;
  readonly create_revision: string;
  readonly mod_revision: string;
}

export function readTxn({ header, succeeded, responses = [] }: WireTxn): TxnResult {
  return {
    succeeded: succeeded === true,
    revision: Number(header?.revision ?? 0),
    answers: responses.map(({ response_range, response_txn }) => ({
      entries: response_range?.kvs?.map(readEntry) ?? [],
      txn: response_txn === undefined ? undefined : readTxn(response_txn),
    })),
  };
}

function readEntry({ key, value = "", create_revision, mod_revision }: WireEntry): Entry {
  return {
    key: Buffer.from(key, "base64").toString(),
    value: Buffer.from(value, "base64"),
    created: Number(create_revision),
    changed: mod_revision,
  };
}
