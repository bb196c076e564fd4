import type { Socket } from "node:net";
import type { Parcel } from "../exchange/parcel.js";
import { descriptorOf } from "../platform/node-internals.js";
import type { ConnectionAdapter } from "./adapter.js";
import { encodeFrozen } from "./wire-format.js";
import type { Parked } from "./dormant.js";
import { StillSocket } from "./paused-socket.js";
import type { TrackedServer } from "./tracked-server.js";

/** A connection that is frozen to be offered, and is nowhere until the offer is settled. */
export interface Departing {
  readonly connection: Socket | Parked;
  readonly parcel: Parcel;
  /** It was taken. */
  readonly gone: () => void;
  /** It was not: it goes on here. */
  readonly back: () => void;
  /** And it will not move. */
  readonly keep: () => void;
}

/** The kind of the parcels that connections are. */
export const KIND = "connection";

/**
 * Freezes an idle connection; undefined for one that is not, or has ended. `id` is its parcel's.
 *
 * @throws what the adapter throws: then the connection goes on
 */
export function freeze(
  connection: Socket | Parked,
  server: TrackedServer,
  id: number,
): Departing | undefined {
  return "fd" in connection ? freezeParked(connection, server, id) : freezeSocket(connection, server, id);
}

/** Looks, stops reading and sends in one turn: what arrives later is still in the kernel, and goes along. */
function freezeSocket(socket: Socket, server: TrackedServer, id: number): Departing | undefined {
  const adapter = socket.destroyed ? undefined : server.adapters.find((one) => one.idle(socket));
  if (adapter === undefined) return undefined;
  const state = adapter.freeze(socket);
  const fd = descriptorOf(socket);
  const still = new StillSocket(socket);
  const body = encode(adapter.name, state, still);
  return {
    connection: socket,
    parcel: parcelOf(server, id, adapter.version, body, fd),
    gone: () => {
      tellMoved(adapter, socket);
      still.abandon();
    },
    back: () => still.release(),
    keep: () => server.http1?.keep(socket),
  };
}

function freezeParked(parked: Parked, server: TrackedServer, id: number): Departing | undefined {
  if (!server.unpark(parked)) return undefined;
  const { adapter, state } = parked;
  const body = encodeFrozen({ protocol: adapter.name, state });
  return {
    connection: parked,
    parcel: parcelOf(server, id, adapter.version, body, parked.fd),
    gone: () => server.forget(parked),
    back: () => server.park(parked),
    keep: () => server.keep(parked),
  };
}

function encode(protocol: string, state: unknown, still: StillSocket): Uint8Array {
  const { unread } = still;
  try {
    return encodeFrozen({ protocol, state, ...(unread === undefined ? {} : { unread }) });
  } catch (error) {
    still.release();
    throw error;
  }
}

/** What it throws is the program's, and must not keep others from moving. */
function tellMoved(adapter: ConnectionAdapter, socket: Socket): void {
  try {
    adapter.moved?.(socket);
  } catch (error) {
    process.nextTick(() => {
      throw error;
    });
  }
}

function parcelOf(
  { label }: TrackedServer,
  id: number,
  version: number,
  body: Uint8Array,
  fd: number,
): Parcel {
  return { kind: KIND, label, id: String(id), version, codec: "json", body, fds: [fd] };
}
