import { wrongOption } from "../util/validation.js";
import type { Server, Socket } from "node:net";

/**
 * What lets the connections of a protocol move to the next process: HTTP/1.1 is built in, `handover/ws` is
 * another, and `listen(server, { connections: adapter })` or `upg.addConnections(adapter)` takes one's own.
 *
 * A connection leaves in the turn in which it is `idle`; bytes that wait in the kernel, or were read and not
 * consumed, travel with it. In the old process it stays as it is until the new one has adopted it; if that
 * refuses, or dies before, it goes on where it was.
 */
export interface ConnectionAdapter {
  /** Both processes must mean the same by it. */
  readonly name: string;
  /** Of what `freeze` returns. Another version is refused, and the connection stays. */
  readonly version: number;
  /**
   * Whether it is a connection of this protocol on which nothing is half read or half written. Called often, and
   * for every connection.
   */
  idle(socket: Socket): boolean;
  /**
   * It should leave, and is not idle. May see to it that it is soon, by reading on to where it is and no further, and
   * calls `rested` then; others are looked at every 50 ms. Returns what undoes it, or undefined if there is nothing to
   * undo.
   */
  quiesce?(socket: Socket, rested: () => void): (() => void) | undefined;
  /** What the next process has to know, as JSON. The connection goes on if it is refused there. */
  freeze(socket: Socket): unknown;
  /**
   * Goes on with an adopted connection, of which `state` is what `freeze` has returned. To throw is to refuse it:
   * it goes on in the old process. Where {@link idleTimeout} has put it off it is too late for that: the connection is
   * closed, and what was thrown is a warning.
   */
  thaw(socket: Socket, state: unknown, server: Server): void;
  /** It has moved; its socket here is about to be closed, of which the client sees nothing. */
  moved?(socket: Socket): void;
  /**
   * For protocols in which the client speaks first: how long, in ms, an adopted connection may stay silent
   * before it is closed. Until its first byte it has no socket, and is not thawed: thousands cost nothing.
   */
  idleTimeout?(state: unknown): number;
  /**
   * Ends a connection that does not move, in the protocol's own way; called late in a drain, for a few at a time.
   * False if it is none of this protocol.
   */
  close?(socket: Socket): boolean;
}

/** What knows how the connections of one protocol come to their end. */
export interface CloseStrategy {
  /** From now on, connections are told to close at their next opportunity; or no longer. */
  setClosing(closing: boolean): void;
  /** Those that are idle now and may be closed, with a mark that changes when anything has happened since. */
  idleConnections(): ReadonlyMap<unknown, string>;
  /** Closes an idle one, in the protocol's own way. */
  closeIdle(connection: unknown): void;
}

/** @throws {HandoverError} `ERR_OPTION` for an object that is not an adapter */
export function readAdapter(adapter: ConnectionAdapter): ConnectionAdapter {
  const isFunction = (name: keyof ConnectionAdapter): boolean => typeof adapter[name] === "function";
  const functions = ["idle", "freeze", "thaw"] as const;
  const optional = ["quiesce", "moved", "idleTimeout", "close"] as const;
  if (
    typeof adapter === "object" &&
    adapter !== null &&
    typeof adapter.name === "string" &&
    Number.isSafeInteger(adapter.version) &&
    adapter.version >= 0 &&
    functions.every(isFunction) &&
    optional.every((name) => adapter[name] === undefined || isFunction(name))
  ) {
    return adapter;
  }
  throw wrongOption("connections", "{ name, version, idle, freeze, thaw }", adapter);
}
