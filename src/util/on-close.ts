import type { Socket } from "node:net";

/** A listener of `close` for any number of sockets: a closure for each would cost memory. */
export function onClose(closed: (socket: Socket) => void): (this: Socket) => void {
  return function (this: Socket) {
    closed(this);
  };
}
