import { once } from "node:events";
import {
  connect as connectTcp,
  createServer as createProxy,
  type AddressInfo,
  type Server,
  type Socket,
} from "node:net";
import { setImmediate } from "node:timers/promises";
import {
  connect,
  createServer,
  type ConnectionOptions,
  type Server as TlsServer,
  type TlsOptions,
  type TLSSocket,
} from "node:tls";
import { onTestFinished } from "vitest";
import { native } from "../../dist/platform/native.js";
import { descriptorOf, stopReading } from "../../dist/platform/node-internals.js";
import { MovedTlsSocket } from "../../dist/tls/moved-tls-socket.js";
import { RecordKeys } from "../../dist/tls/record-keys.js";
import { RecordWatch } from "../../dist/tls/record-watch.js";
import { decodeSecure } from "../../dist/tls/secure-state.js";
import { selfSigned } from "./client.js";

/**
 * A client and a server of TLS in this process, whose connections can be moved from socket to socket. What the client sends
 * passes through a proxy, which can hold it.
 */
export class TlsPair {
  readonly client: TLSSocket;
  original!: TLSSocket;
  readonly watch: RecordWatch;
  readonly #toServer: Socket;
  #held: Buffer | undefined;

  /** @param prepare called with the server before it listens */
  static async open(
    serverOptions: TlsOptions = {},
    clientOptions: ConnectionOptions = {},
    prepare: (server: TlsServer) => void = () => {},
  ): Promise<TlsPair> {
    const server = createServer({ ...selfSigned(), ...serverOptions });
    const watch = new RecordWatch(server);
    prepare(server);
    const port = await listening(server);
    const proxy = createProxy();
    const through = once(proxy, "connection") as Promise<[Socket]>;
    const accepted = once(server, "secureConnection") as Promise<[TLSSocket]>;
    const client = connect({
      port: await listening(proxy),
      host: "127.0.0.1",
      rejectUnauthorized: false,
      ...clientOptions,
    });
    const [fromClient] = await through;
    const toServer = connectTcp(port, "127.0.0.1");
    const pair = new TlsPair(client, fromClient, toServer, watch);
    await once(client, "secureConnect");
    pair.original = (await accepted)[0];
    pair.original.on("error", () => {});
    onTestFinished(() => {
      for (const socket of [client, fromClient, toServer, pair.original]) socket.destroy();
      server.close();
      proxy.close();
    });
    return pair;
  }

  private constructor(client: TLSSocket, fromClient: Socket, toServer: Socket, watch: RecordWatch) {
    this.client = client.on("error", () => {});
    this.watch = watch;
    this.#toServer = toServer;
    toServer.on("error", () => {}).on("data", (chunk: Buffer) => fromClient.write(chunk));
    toServer.on("end", () => fromClient.end());
    fromClient.on("error", () => {}).on("end", () => toServer.end());
    fromClient.on("data", (chunk: Buffer) => {
      if (this.#held === undefined) toServer.write(chunk);
      else this.#held = Buffer.concat([this.#held, chunk]);
    });
  }

  /** Holds what the client sends from now on. */
  hold(): void {
    this.#held = Buffer.alloc(0);
  }

  /** Passes on the first of the bytes that are held; resolves when `socket` has read them. */
  async pass(count: number, socket: Socket): Promise<void> {
    while (this.#held!.length < count) await setImmediate();
    const before = bytesReceived(socket);
    this.#toServer.write(this.#held!.subarray(0, count));
    this.#held = this.#held!.subarray(count);
    while (bytesReceived(socket) < before + count) await setImmediate();
  }

  /** Passes on all from now on. */
  goOn(): void {
    this.#toServer.write(this.#held!);
    this.#held = undefined;
  }

  /** By which the client seals its next records. */
  keysOfClient(): RecordKeys {
    const { suite, receiving } = decodeSecure(this.watch.freeze(this.original)!);
    return new RecordKeys(suite, receiving, "seal");
  }

  /** Sends bytes to the server that the client knows nothing of. */
  forge(bytes: Uint8Array): void {
    this.#toServer.write(bytes);
  }

  /** Moves the connection from the socket that Node made. */
  move(): MovedTlsSocket {
    return moveFrom(this.watch, this.original);
  }
}

/** Moves a connection from the socket that Node made. */
export function moveFrom(watch: RecordWatch, socket: TLSSocket): MovedTlsSocket {
  stopReading(socket);
  const obstacle = watch.obstacle(socket);
  if (obstacle !== undefined) throw new Error(`it cannot move: ${obstacle}`);
  return thaw(socket, watch.freeze(socket)!);
}

/** Bytes of ciphertext. */
function bytesReceived(socket: Socket): number {
  type Handle = { bytesRead: number; _parent?: { bytesRead: number } };
  const { _handle: handle } = socket as unknown as { _handle: Handle };
  return (handle._parent ?? handle).bytesRead;
}

async function listening(server: Server): Promise<number> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return (server.address() as AddressInfo).port;
}

/** Moves a connection on from a socket that it has moved to. */
export function moveAgain(socket: MovedTlsSocket): MovedTlsSocket {
  stopReading(socket);
  return thaw(socket, socket.freeze()!);
}

function thaw(from: Socket, frozen: Buffer): MovedTlsSocket {
  const fd = native().duplicate(descriptorOf(from));
  const state = decodeSecure(frozen);
  frozen.fill(0);
  from.destroy();
  const moved = new MovedTlsSocket(state, { fd, readable: true, writable: true });
  moved.on("error", () => {});
  onTestFinished(() => void moved.destroy());
  return moved;
}

/** Sends a text from one side to the other, and waits until all of it has arrived. */
export async function say(from: Socket, to: Socket, text: string): Promise<void> {
  const received = receive(to, text.length);
  const written = new Promise((resolve) => from.write(text, resolve));
  if ((await received) !== text) throw new Error("other bytes arrived");
  await written;
}

/** The next bytes that a socket receives, of at least this length. */
export async function receive(socket: Socket, length: number): Promise<string> {
  let text = "";
  return new Promise((resolve, reject) => {
    const closed = (): void => reject(new Error("the connection has closed"));
    const read = (chunk: Buffer): void => {
      text += chunk.toString("latin1");
      if (text.length < length) return;
      socket.off("data", read).off("close", closed);
      resolve(text);
    };
    socket.on("data", read).on("close", closed);
  });
}

/** Both directions; the text that has arrived. */
export async function talk(one: Socket, other: Socket, text = "hello"): Promise<string> {
  await say(one, other, text);
  await say(other, one, text);
  return text;
}
