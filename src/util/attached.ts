/** WebSockets that are attached to a unit: the drain of the connections leaves them open until the unit has left. */
const held = new WeakMap<object, number>();

/** The drain does not close the socket until {@link letClose} was called as often. */
export function holdOpen(socket: object): void {
  for (const one of partsOf(socket)) held.set(one, (held.get(one) ?? 0) + 1);
}

export function letClose(socket: object): void {
  for (const one of partsOf(socket)) {
    const count = held.get(one) ?? 0;
    if (count > 1) held.set(one, count - 1);
    else held.delete(one);
  }
}

export function isHeldOpen(socket: object): boolean {
  return held.has(socket);
}

/** A WebSocket of `ws`, and the connection under it: the drain knows one or the other. */
function partsOf(socket: object): object[] {
  const { _socket: connection } = socket as { _socket?: unknown };
  return typeof connection === "object" && connection !== null ? [socket, connection] : [socket];
}
