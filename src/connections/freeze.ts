import type { Socket } from "node:net";
import type { Parcel } from "../exchange/parcel.js";
import { descriptorOf } from "../platform/node-internals.js";
import type { ConnectionAdapter } from "./adapter.js";
import { encodeFrozen } from "./wire-format.js";
import type { DormantConnection } from "./dormant.js";
import { PausedSocket } from "./paused-socket.js";
import type { TrackedServer } from "./tracked-server.js";

/** A connection that is frozen to be offered, and is nowhere until the offer is settled. */
export interface FrozenConnection {
  readonly connection: Socket | DormantConnection;
  readonly parcel: Parcel;
  /** It was taken. */
  readonly onTaken: () => void;
  /** It was not: it goes on here. */
  readonly onReturned: () => void;
  /** And it will not move. */
  readonly onRefused: () => void;
}

/** The kind of the parcels that connections are. */
export const CONNECTION_KIND = "connection";

/**
 * Freezes an idle connection; undefined for one that is not, or has ended. `id` is its parcel's.
 *
 * @throws what the adapter throws: then the connection goes on
 */
export function freeze(
  connection: Socket | DormantConnection,
  server: TrackedServer,
  id: number,
): FrozenConnection | undefined {
  return "fd" in connection ? freezeDormant(connection, server, id) : freezeSocket(connection, server, id);
}

/** Looks, stops reading and sends in one turn: what arrives later is still in the kernel, and goes along. */
function freezeSocket(socket: Socket, server: TrackedServer, id: number): FrozenConnection | undefined {
  const adapter = socket.destroyed ? undefined : server.adapters.find((one) => one.idle(socket));
  if (adapter === undefined) return undefined;
  const state = adapter.freeze(socket);
  const fd = descriptorOf(socket);
  const paused = new PausedSocket(socket);
  const body = encode(adapter.name, state, paused);
  return {
    connection: socket,
    parcel: parcelOf(server, id, adapter.version, body, fd),
    onTaken: () => {
      callMoved(adapter, socket);
      paused.discard();
    },
    onReturned: () => paused.resume(),
    onRefused: () => server.http1?.markStaying(socket),
  };
}

function freezeDormant(
  dormant: DormantConnection,
  server: TrackedServer,
  id: number,
): FrozenConnection | undefined {
  if (!server.takeDormant(dormant)) return undefined;
  const { adapter, state } = dormant;
  const body = encodeFrozen({ protocol: adapter.name, state });
  return {
    connection: dormant,
    parcel: parcelOf(server, id, adapter.version, body, dormant.fd),
    onTaken: () => server.forget(dormant),
    onReturned: () => server.returnDormant(dormant),
    onRefused: () => server.keep(dormant),
  };
}

function encode(protocol: string, state: unknown, paused: PausedSocket): Uint8Array {
  const { unread } = paused;
  try {
    return encodeFrozen({ protocol, state, ...(unread === undefined ? {} : { unread }) });
  } catch (error) {
    paused.resume();
    throw error;
  }
}

/** What it throws is the program's, and must not keep others from moving. */
function callMoved(adapter: ConnectionAdapter, socket: Socket): void {
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
  return { kind: CONNECTION_KIND, label, id: String(id), version, codec: "json", body, fds: [fd] };
}
