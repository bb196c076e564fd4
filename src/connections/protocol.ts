/** What knows how the connections of one protocol come to their end. */
export interface Protocol {
  /** From now on, connections are told to close at their next opportunity; or no longer. */
  setClosing(closing: boolean): void;
  /** Those that are idle now and may be closed, with a mark that changes when anything has happened since. */
  closable(): ReadonlyMap<unknown, string>;
  /** Closes an idle one, in the protocol's own way. */
  closeIdle(connection: unknown): void;
}
