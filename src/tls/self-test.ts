import { once } from "node:events";
import { Socket } from "node:net";
import type { Server as TlsServer, TLSSocket } from "node:tls";
import { codeOf, reasonOf } from "../errors.js";
import { builtins } from "../platform/builtins.js";
import { check, native, systemCause } from "../platform/native.js";
import { descriptorOf, stopReading } from "../platform/node-internals.js";
import { likeServer } from "../platform/tls-internals.js";
import { TIMED_OUT, withTimeout } from "../util/timeout.js";
import { MovedTlsSocket } from "./moved-tls-socket.js";
import { RecordWatch } from "./record-watch.js";
import { decodeSecure } from "./secure-state.js";

/** Why a self-test failed. */
export interface TestFailure {
  readonly reason: string;
  /** Whether another try may succeed: the system had no descriptors or no memory, or the machine was too busy. */
  readonly mayPass: boolean;
}

/**
 * Moves a connection of a client in this process to the server's own certificate, before any real one moves: a Node or an
 * OpenSSL that does something else than the tested ones would break each of them.
 *
 * @returns why that failed; undefined if it works
 */
export async function testTls(server: TlsServer): Promise<TestFailure | undefined> {
  const sockets: Socket[] = [];
  try {
    const result = await withTimeout(LONGEST, moveAny(server, sockets));
    if (result !== TIMED_OUT) return undefined;
    return { reason: `the self-test took longer than ${LONGEST} ms`, mayPass: true };
  } catch (error) {
    const mayPass = PASSING.has(codeOf(systemCause(error), "ERR_DESCRIPTOR"));
    return { reason: `the self-test failed: ${reasonOf(error)}`, mayPass };
  } finally {
    for (const socket of sockets) socket.destroy();
  }
}

/**
 * A server whose certificates depend on the name that a client asks for may have none for this one: it gets a key that both
 * sides know instead.
 *
 * @param sockets gets every socket that is made
 */
async function moveAny(server: TlsServer, sockets: Socket[]): Promise<void> {
  try {
    await moveOne(server, sockets);
  } catch (error) {
    if (!reasonOf(error).includes(NO_CERTIFICATE)) throw error;
    const key = builtins.crypto.randomBytes(KEY_LENGTH);
    await moveOne(server, sockets, key);
  }
}

async function moveOne(server: TlsServer, sockets: Socket[], key?: Buffer): Promise<void> {
  const [here, there] = check(native().streamPair(), "make", "a pair of sockets");
  const [accepting, connecting] = [socketOn(here), socketOn(there)];
  sockets.push(accepting, connecting);
  const copy = likeServer(server, key === undefined ? {} : { pskCallback: () => key });
  const watch = new RecordWatch(copy);
  const accepted = once(copy, "secureConnection") as Promise<[TLSSocket]>;
  // A failed handshake would otherwise leave the client waiting.
  const refused = once(copy, "tlsClientError").then(([error]) => Promise.reject(error as Error));
  refused.catch(() => {});
  copy.emit("connection", accepting);
  const client = builtins.tls.connect({
    socket: connecting,
    rejectUnauthorized: false,
    ...(key === undefined ? {} : { pskCallback: () => ({ psk: key, identity: "test" }), ...FOR_KEYS }),
  });
  sockets.push(client);
  client.on("error", () => {});
  const [original] = await Promise.race([accepted, refused]);
  sockets.push(original);
  await echo(client, original, "before");
  stopReading(original);
  const obstacle = watch.obstacle(original);
  const frozen = obstacle === undefined ? watch.freeze(original) : undefined;
  // Such a server has no connection that could move.
  if (obstacle === "ERR_TLS_VERSION" || obstacle === "ERR_TLS_CIPHER") return;
  if (frozen === undefined) throw new Error(`its records cannot be counted (${obstacle})`);
  const fd = check(native().duplicate(descriptorOf(original)), "duplicate", "a connection");
  const moved = new MovedTlsSocket(decodeSecure(frozen), { fd, readable: true, writable: true });
  frozen.fill(0);
  sockets.push(moved);
  original.destroy();
  await echo(client, moved, "after");
}

/** Sends a text in both directions. */
async function echo(client: Socket, server: Socket, text: string): Promise<void> {
  for (const [from, to] of [
    [client, server],
    [server, client],
  ] as const) {
    const failed = once(to, "close").then(() =>
      Promise.reject(new Error(`the connection broke ${text} its move`)),
    );
    failed.catch(() => {});
    const received = once(to, "data");
    const written = new Promise((resolve) => from.write(text, resolve));
    const [[data]] = (await Promise.race([Promise.all([received, written]), failed])) as [[Buffer], unknown];
    if (data.toString() !== text) throw new Error(`other bytes arrived ${text} its move`);
  }
}

function socketOn(fd: number): Socket {
  return new Socket({ fd, readable: true, writable: true }).on("error", () => {});
}

/** Of the system: it lacks what it may have again. */
const PASSING: ReadonlySet<string> = new Set(["EMFILE", "ENFILE", "ENOMEM", "ENOBUFS", "EAGAIN"]);

const NO_CERTIFICATE = "no suitable signature algorithm";

const FOR_KEYS = { ciphers: "TLS_AES_128_GCM_SHA256:PSK", checkServerIdentity: () => undefined };

/** Bytes: those of SHA-256, which is what TLS 1.3 takes for such keys. */
const KEY_LENGTH = 32;

/** ms */
const LONGEST = 10_000;
