import type { HandoverError } from "../errors.js";
import type { UpgradeResult } from "../events.js";
import type { Exchange } from "../exchange/exchange.js";

/** From the commit of an upgrade to the end of its probation, as the process that is replaced sees it. */
export interface Succession {
  /** Of the successor. */
  readonly pid: number;
  /** The exchange on which this process offers parcels; undefined if there is none. */
  readonly exchange: Exchange | undefined;
  /** Resolves when the successor is gone. */
  readonly gone: Promise<void>;
  /** Resolves at the end of probation: whether the successor was confirmed. */
  readonly confirmed: Promise<boolean>;
  readonly result: UpgradeResult;
  /** Resolves when probation is over; with an error if the successor died. */
  probation(): Promise<HandoverError | undefined>;
  /** A rollback is impossible: releases everything that it would have needed. */
  confirm(): void;
  /** Tells the successor that this process stops. */
  announceStop(): void;
  /** The successor has died: reads the channels of older generations in this process again. */
  reclaimChannels(): void;
  /** Records the rollback. Returns the reason. */
  recordRollback(): HandoverError;
}
