import type { Socket } from "node:dgram";
import { datagramOptions, isUnbound } from "../platform/node-internals.js";
import { isNumber } from "./listen-arguments.js";

/** What a program asks `socket.bind()` for, as far as handover takes it over. */
export interface BindWish {
  readonly options: { port: number; address?: string };
  readonly callback: (() => void) | undefined;
}

/**
 * Reads the arguments of `bind()` of a datagram socket. Undefined for a call that is left to Node: on a handle or a descriptor; on port 0,
 * as a socket is bound that sends before; of an `exclusive` socket; of one that shares its address with others, as a receiver of
 * multicast does; and one that Node refuses.
 */
export function readBindArguments(socket: Socket, args: readonly unknown[]): BindWish | undefined {
  const callback = args.findLast((arg) => typeof arg === "function") as (() => void) | undefined;
  const [first, second] = args.filter((arg) => typeof arg !== "function");
  const isObject = typeof first === "object" && first !== null;
  const given = (isObject ? first : { port: first, address: second }) as Record<string, unknown>;
  const { port, address, exclusive, fd } = given;
  if (fd !== undefined || "recvStart" in given || exclusive === true) return undefined;
  if (!isUnbound(socket) || datagramOptions(socket).isShared) return undefined;
  const number = typeof port === "number" || isNumber(port) ? Number(port) : 0;
  if (!Number.isInteger(number) || number < 1 || number > 65_535) return undefined;
  const named = typeof address === "string" && address !== "" ? { address } : {};
  return { options: { port: number, ...named }, callback };
}
