import { HandoverError } from "../errors.js";
import { overrideMember } from "../platform/node-internals.js";
import { jsonCodec, v8Codec, type Codec } from "../state/codec.js";
import { CONNECT, type Client, type IoSocket } from "./internals.js";

/** A client as it moves: its session of engine.io, and its socket in each namespace. */
export interface SavedClient {
  /** Of engine.io. */
  readonly id: string;
  readonly sockets: readonly SavedSocket[];
}

interface SavedSocket {
  readonly namespace: string;
  readonly id: string;
  readonly pid: string | undefined;
  readonly rooms: readonly string[];
  /** What the program has stored, in base64. */
  readonly data: { readonly codec: string; readonly bytes: string };
  readonly handshake: IoSocket["handshake"];
}

/** @throws {HandoverError} `ERR_ENCODING`, for data that cannot be cloned */
export function saveClient({ conn, nsps }: Client): SavedClient {
  const sockets = [...nsps.values()].map(({ nsp, id, pid, rooms, data, handshake }) => ({
    namespace: nsp.name,
    id,
    pid,
    rooms: [...rooms],
    data: encodeData(data),
    handshake,
  }));
  return { id: conn.id, sockets };
}

/** Why a saved client cannot continue here, if it cannot. */
export function refuseClient(
  { sockets }: SavedClient,
  isNamespace: (name: string) => boolean,
): string | undefined {
  for (const { namespace, data } of sockets) {
    if (!isNamespace(namespace)) return `there is no namespace "${namespace}"`;
    if (codecOf(data.codec) === undefined) return `there is no codec "${data.codec}" for its data`;
  }
  return undefined;
}

/** The client's request to join a namespace: what it said of an earlier connection is worth nothing. */
export function connectPacket({ namespace, handshake }: SavedSocket): object {
  const { pid: _, offset: __, ...auth } = handshake.auth ?? {};
  return { type: CONNECT, nsp: namespace, data: auth };
}

/** Lets a new socket continue as the saved one. Its client gets no message of that. */
export function restoreSocket(socket: IoSocket, saved: SavedSocket): void {
  socket.nsp._preConnectSockets?.delete(socket.id);
  const { id, pid, rooms, data, handshake } = saved;
  Object.assign(socket, { id, pid, data: decodeData(data), handshake, recovered: true });
  void socket.join([...rooms]);
  overrideMember(socket, "packet", (packet, options) => {
    delete (socket as Partial<IoSocket>).packet;
    if (packet.type !== CONNECT) socket.packet(packet, options);
  });
}

/** JSON is the same in every version of Node; what it would lose, the format of V8 keeps. */
function encodeData(data: unknown): SavedSocket["data"] {
  const encode = (codec: Codec): SavedSocket["data"] => ({
    codec: codec.name,
    bytes: Buffer.from(codec.encode(data)).toString("base64"),
  });
  try {
    return encode(jsonCodec);
  } catch (error) {
    if (error instanceof HandoverError && error.code === "ERR_ENCODING") return encode(v8Codec);
    throw error;
  }
}

function decodeData({ codec, bytes }: SavedSocket["data"]): unknown {
  return codecOf(codec)!.decode(Buffer.from(bytes, "base64"));
}

function codecOf(name: string): Codec | undefined {
  return [jsonCodec, v8Codec].find((codec) => codec.name === name);
}
