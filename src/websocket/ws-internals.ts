import type { Socket } from "node:net";

/** The members of a `WebSocket` of `ws` 8 that are used. */
export interface WebSocketLike {
  readonly readyState: number;
  close(code: number, reason: string): void;
  terminate(): void;
}

/*
 * Undocumented members of `ws`, in one place. All of them exist in 8.0 to 8.23, except `_deflating` (to 8.17) and the
 * sender's `_state` (since 8.18.3).
 */
interface Internals {
  _receiver?: Receiver;
  _sender?: {
    _queue: unknown[];
    _bufferedBytes: number;
    _firstFragment: boolean;
    _deflating?: boolean;
    _state?: number;
  };
  _extensions?: Record<string, Compression | undefined>;
  _closeCode: number;
  _closeMessage: Buffer;
}

/** The reader of frames, a `Writable`. */
export interface Receiver {
  _state: number;
  _bufferedBytes: number;
  _payloadLength: number;
  _fragments: unknown[];
  _fragmented: number;
  _loop: boolean;
  writableLength: number;
  writableEnded: boolean;
  write(chunk: Buffer, callback?: (error?: Error | null) => void): boolean;
  emit(event: "drain"): boolean;
}

interface Compression {
  _deflate: unknown;
  _inflate: unknown;
  params: Record<string, unknown>;
}

/** The WebSocket of `ws` that reads from a socket; undefined if another library does. */
export function webSocketOf(socket: Socket): WebSocketLike | undefined {
  const symbol = Object.getOwnPropertySymbols(socket).find((one) => one.description === "websocket");
  if (symbol === undefined) return undefined;
  const ws = (socket as unknown as Record<symbol, Partial<WebSocketLike & Internals>>)[symbol];
  const isKnown = ws?._receiver !== undefined && ws._sender !== undefined && typeof ws.close === "function";
  return isKnown ? (ws as WebSocketLike) : undefined;
}

const OPEN = 1;

/** Whether neither side has begun to close it. */
export function isOpen(ws: WebSocketLike): boolean {
  return ws.readyState === OPEN;
}

/** Whether the connection is between two frames in both directions, and compression has no context. */
export function isQuiet(ws: WebSocketLike, socket: Socket): boolean {
  const { _receiver: receiver, _sender: sender } = ws as unknown as Internals;
  return (
    isOpen(ws) &&
    receiver !== undefined &&
    receiver._state === 0 &&
    receiver._bufferedBytes === 0 &&
    receiver._fragments.length === 0 &&
    receiver._fragmented === 0 &&
    !receiver._loop &&
    receiver.writableLength === 0 &&
    sender !== undefined &&
    sender._queue.length === 0 &&
    sender._bufferedBytes === 0 &&
    sender._firstFragment &&
    sender._deflating !== true &&
    (sender._state ?? 0) === 0 &&
    !hasContext(ws) &&
    socket.writableLength === 0
  );
}

export function receiverOf(ws: WebSocketLike): Receiver {
  return (ws as unknown as Internals)._receiver!;
}

/** How many bytes a receiver still needs of a frame's head, the length in it, the mask, or the payload. */
export function bytesMissing({ _state, _bufferedBytes, _payloadLength }: Receiver): number {
  const wanted = [2, 2, 8, 4, _payloadLength][_state] ?? Infinity;
  return Math.max(1, wanted - _bufferedBytes);
}

/** Sets the code and reason of the `close` event that the program receives when its connection has moved. */
export function markMoved(ws: WebSocketLike): void {
  Object.assign(ws as unknown as Internals, { _closeCode: 1012, _closeMessage: Buffer.from("moved") });
}

/** Whether a side needs its earlier messages to compress the next: its stream is created by its first message. */
export function hasContext(ws: WebSocketLike): boolean {
  const compression = (ws as unknown as Internals)._extensions?.["permessage-deflate"];
  if (compression === undefined) return false;
  const { _deflate, _inflate, params } = compression;
  return (
    (Boolean(_deflate) && params["server_no_context_takeover"] !== true) ||
    (Boolean(_inflate) && params["client_no_context_takeover"] !== true)
  );
}
