import { wrongOption } from "../util/validation.js";
import type { Server, Socket } from "node:net";

/**
 * How the connections of a protocol move to the next process. HTTP/1.1 is built in, `handover/ws` is another adapter, and
 * `listen(server, { connections: adapter })` or `upg.addConnections(adapter)` takes one's own.
 *
 * A connection moves in the turn in which it is `idle`. Bytes that wait in the kernel, or were read and not consumed,
 * move with it. The old process keeps it until the new one has adopted it; if that refuses, or dies before, the
 * connection continues where it was.
 *
 * An exception of a member, a promise that it rejects, and a result of a wrong type never stop an upgrade or a `stop()`.
 * Each is the warning `HANDOVER_ADAPTER`, emitted once for a member of an adapter, and has the consequence that is
 * described with the member. A connection that stays is counted in the event `exit`; one of HTTP is asked to close.
 */
export interface ConnectionAdapter {
  /** Both processes must mean the same by it. */
  readonly name: string;
  /** Of the state that `freeze` returns. A process whose adapter has another version refuses the connection. */
  readonly version: number;
  /**
   * Whether the socket is a connection of this protocol on which nothing is half read or half written. Called often, and
   * for every connection. If it fails, the connection stays, unless another adapter moves it.
   */
  idle(socket: Socket): boolean;
  /**
   * Called for a connection that should move and is not idle. May read on to the next safe point and no further, and
   * calls `rested` there. A connection without it is looked at every 50 ms. Returns a function that undoes it, or
   * undefined if there is nothing to undo. If it fails, the connection moves when it is idle; if its undo fails, the
   * connection stays as it is then. `rested` never throws, and may be called late.
   */
  quiesce?(socket: Socket, rested: () => void): (() => void) | undefined;
  /** Returns the state that the next process needs, as JSON. If it fails, or returns a promise, the connection stays. */
  freeze(socket: Socket): unknown;
  /**
   * Continues an adopted connection from the `state` that `freeze` returned. To throw is to refuse the connection: it
   * stays in the old process, without a warning. It is too late for that if {@link idleTimeout} has put the call off, and
   * for a promise that is rejected: the connection is closed.
   */
  thaw(socket: Socket, state: unknown, server: Server): void;
  /**
   * The connection has moved. Its socket in this process is closed, which the client does not see: at once if anything listens
   * to its `close`, else a second later. If it fails, the connection has moved nevertheless.
   */
  moved?(socket: Socket): void;
  /**
   * For protocols in which the client speaks first: how long, in ms, an adopted connection may stay silent before it is
   * closed. Until its first byte it has no socket, and is not thawed: thousands cost nothing. If it fails, or returns
   * anything but a number, the connection is thawed at once.
   */
  idleTimeout?(state: unknown): number;
  /**
   * Closes a connection that does not move, in the protocol's own way; called late in a drain, for a few at a time.
   * Returns false if the connection is not of this protocol. If it fails, or returns a promise, the connection stays until
   * it ends or the drain is over.
   */
  close?(socket: Socket): boolean;
}

/** The property `handover` of the socket or the request of a connection that has moved. */
export interface Handover {
  /** Returned by `save` in the old process; null without it. */
  state: unknown;
}

/** How the connections of one protocol come to their end. */
export interface CloseStrategy {
  /** Whether connections are asked to close at their next opportunity. */
  setClosing(closing: boolean): void;
  /** Connections that are idle now and may be closed, each with a mark that changes with its next byte. */
  idleConnections(): ReadonlyMap<unknown, string>;
  /** Closes an idle connection, in the protocol's own way. */
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
