import type { Peer } from "../channel/messages.js";
import { codeOf, reasonOf, type ErrorCode, type RefusalCode } from "../errors.js";

export type { Peer };

/** What moves: something of a kind, under a label, in a version of its own. */
export interface Parcel {
  /** Decides who takes it: `connection`, `slot` or `unit`. */
  readonly kind: string;
  readonly label: string;
  readonly id: string;
  readonly version: number;
  /** By what its body is to be read. */
  readonly codec: string;
  readonly body: Uint8Array;
  /** Only an exchange on this host carries descriptors. They stay the owner's. */
  readonly fds: readonly number[];
}

/** Why somebody did not take a parcel. */
export interface Refusal {
  /** A {@link RefusalCode}, an {@link ErrorCode}, or the code of an error that the program threw. */
  readonly code: string;
  /** For people. */
  readonly reason?: string;
}

/** A refusal by this library; those of programs and adapters may have any code. */
export function makeRefusal(code: ErrorCode | RefusalCode, reason?: string): Refusal {
  return reason === undefined ? { code } : { code, reason };
}

/**
 * The refusal that an error stands for, short enough for a message.
 *
 * @param fallback the code of an error that has none
 */
export function refusalOf(error: unknown, fallback: RefusalCode = "ERR_TAKER"): Refusal {
  return shortened({ code: codeOf(error, fallback), reason: reasonOf(error) });
}

/** A message has to hold it. */
export function shortened({ code, reason }: Refusal): Refusal {
  const shortCode = code.slice(0, MAX_CODE);
  return reason === undefined
    ? { code: shortCode }
    : { code: shortCode, reason: reason.slice(0, MAX_REASON) };
}

/** Characters. */
export const MAX_CODE = 64;
export const MAX_REASON = 100;

/** What became of an offered parcel. Unless it was taken it belongs to its owner, as if never offered. */
export type Settlement =
  | {
      readonly how: "taken";
      readonly by: Peer;
      /** Whether that is for good: false if the taker has died while it could still be undone. */
      readonly confirmed: Promise<boolean>;
    }
  | ({ readonly how: "refused" } & Refusal)
  | {
      /** Its owner took it back, or nobody is there any more. */
      readonly how: "withdrawn";
      /** Of those who might have taken it. */
      readonly refusals: readonly Refusal[];
      /** Whoever may have been taking it has died. */
      readonly died: boolean;
    };
