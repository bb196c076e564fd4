import type { Socket } from "node:net";
import { atCaller } from "../platform/at-caller.js";
import { functionsOf, refuseUnknown, wrongOption } from "../util/validation.js";

export interface HttpOptions {
  /** Of the state that `save` returns. A successor with another version refuses the connection: it stays. */
  version: number;
  /** Returns the program's state of an idle connection, as JSON. If it throws, the connection stays. */
  save?(socket: Socket): unknown;
  /**
   * Restores the state in the next process, before the listeners of `connection` run there. If it throws, the connection is
   * closed.
   */
  restore?(socket: Socket, state: unknown): void;
}

/** For the option `connections` of `listen()`. */
export class HttpConnections {
  /** @internal */
  readonly version: number;
  /** @internal */
  readonly save: ((socket: Socket) => unknown) | undefined;
  /** @internal */
  readonly restore: ((socket: Socket, state: unknown) => void) | undefined;

  /** @internal */
  constructor(version: number, { save, restore }: Pick<HttpOptions, "save" | "restore">) {
    this.version = version;
    this.save = save;
    this.restore = restore;
  }
}

/**
 * Moves the HTTP/1.1 connections of a server together with a state of the program, also those that the program reads
 * before HTTP does: `listen(server, { connections: http({ version, save, restore }) })`. In the next process the listeners
 * of `connection` run again, with a socket whose property `handover` has the state. A connection that has not sent a byte
 * moves as a new one, without either.
 *
 * @throws {HandoverError} `ERR_OPTION`
 */
export function http(options: HttpOptions): HttpConnections {
  return atCaller({ http }, "http", () => {
    refuseUnknown("http()", options, ["version", "save", "restore"]);
    const { version } = options;
    if (!Number.isSafeInteger(version) || version < 0)
      throw wrongOption("version", "a whole number", version);
    return new HttpConnections(version, functionsOf(options, [], ["save", "restore"]));
  });
}
