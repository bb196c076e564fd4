import { codeOf, reasonOf, type ErrorCode, type RefusalCode, type UnitOwner } from "../errors.js";

/** A process that takes parcels, or offers them. Only one that several hosts can reach has a {@link UnitOwner.seat}. */
export interface Peer extends UnitOwner {
  /** Whether it stops, and takes nothing. */
  readonly draining?: boolean;
}

/** A piece of state that moves: of a kind, under a label, in a version of its own. */
export interface Parcel {
  /** `connection`, `slot` or `unit`. */
  readonly kind: string;
  readonly label: string;
  readonly id: string;
  readonly version: number;
  /** The encoding of the body. */
  readonly codec: string;
  readonly body: Uint8Array;
  /** Only an exchange on this host carries descriptors. The exchange duplicates them; these stay the owner's. */
  readonly fds: readonly number[];
  /** The time, in ms, for which an exchange between hosts may keep it when its owner has left; else it is taken back. */
  readonly ttl?: number;
}

/** Why a process did not take a parcel. */
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

/** Short enough for a message. */
export function shortened({ code, reason }: Refusal): Refusal {
  const shortCode = code.slice(0, MAX_CODE);
  return reason === undefined
    ? { code: shortCode }
    : { code: shortCode, reason: reason.slice(0, MAX_REASON) };
}

/** Characters. */
export const MAX_CODE = 64;
export const MAX_REASON = 100;

/**
 * The pause, in ms, before a process is asked again for a parcel that it would take later: until that has waited twice as long, but
 * at least {@link SHORTEST_PAUSE}, and at most a second.
 *
 * @param age ms since the parcel was offered
 */
export function pauseAt(age: number): number {
  // A whole number: see the drain of connections.
  return Math.min(LONGEST_PAUSE, Math.max(SHORTEST_PAUSE, Math.ceil(age)));
}

/** ms */
export const SHORTEST_PAUSE = 250;
const LONGEST_PAUSE = 1_000;

/**
 * The outcome of an offer. A parcel that was refused or withdrawn belongs to its owner, as if it had never been offered; but those
 * that had it meanwhile may have had higher fences.
 */
export type Settlement =
  | {
      readonly how: "taken";
      readonly by: Peer;
      /** Resolves when a rollback is impossible, with true; or with false if the peer died before. */
      readonly confirmed: Promise<boolean>;
    }
  /** Whether it was taken is unknown: the channel or the lease has failed. The parcel must not be used here. */
  | { readonly how: "lost" }
  /** It stays in the exchange, for a process that starts later. */
  | { readonly how: "parked" }
  | ({ readonly how: "refused"; readonly fence?: number } & Refusal)
  | {
      /** The owner took the parcel back, or the other end has closed. */
      readonly how: "withdrawn";
      /** Recorded while it might have been taken. */
      readonly refusals: readonly Refusal[];
      /** The process that may have been taking it has died. */
      readonly died: boolean;
      /** How many have died with it, one after the other. Default: one if `died`. */
      readonly deaths?: number;
      /** That of its owner from now on, if it was given fences meanwhile: it is above them. */
      readonly fence?: number;
    };
