import type { Socket } from "node:dgram";
import { builtins } from "../platform/builtins.js";
import { overrideMember } from "../platform/node-internals.js";
import { readBindArguments, type BindWish } from "./bind-arguments.js";
import { PendingSocket } from "./pending-socket.js";
import type { AutoUpgrader } from "./takeover.js";

/**
 * Replaces `bind()` of all datagram sockets.
 *
 * @param begin loads what takes sockets over; undefined in a program whose sockets are not taken over
 */
export function interceptBind(begin: () => Promise<AutoUpgrader | undefined> | undefined): void {
  const { prototype } = builtins.dgram.Socket;
  const { bind } = prototype as unknown as { bind: (this: Socket, ...args: unknown[]) => Socket };
  const pending = new WeakMap<Socket, PendingSocket>();
  const take = async (
    socket: Socket,
    { options }: BindWish,
    begun: PendingSocket,
    loading: Promise<AutoUpgrader | undefined>,
  ): Promise<void> => {
    try {
      const upgrader = await loading;
      if (begun.isClosed) socket.close();
      else if (upgrader !== undefined) await upgrader.bind(socket, options, begun);
      else {
        begun.end();
        bind.call(socket, options);
      }
    } catch (error) {
      begun.fail(error as Error);
    } finally {
      pending.delete(socket);
    }
  };
  const intercepted = function (this: Socket, ...args: unknown[]): Socket {
    // Handover binds the socket to its descriptor.
    const isOwn = pending.has(this) && (args[0] as { fd?: unknown } | null)?.fd !== undefined;
    if (!isOwn && pending.get(this)?.isClosed === false) throw alreadyBound();
    const wish = pending.has(this) ? undefined : readBindArguments(this, args);
    const loading = wish && begin();
    if (wish === undefined || loading === undefined) return bind.apply(this, args);
    const begun = new PendingSocket(this, wish.callback);
    pending.set(this, begun);
    void take(this, wish, begun, loading);
    return this;
  };
  overrideMember(prototype, "bind", intercepted as typeof prototype.bind);
}

/** As Node throws it. */
function alreadyBound(): Error {
  return Object.assign(new Error("Socket is already bound"), { code: "ERR_SOCKET_ALREADY_BOUND" });
}
