import type { Socket } from "node:net";
import type { Server as TlsServer, TLSSocket } from "node:tls";
import { native } from "../platform/native.js";
import { descriptorOf, hasDescriptor } from "../platform/node-internals.js";
import { secureStreams } from "../platform/tls-internals.js";
import type { RefusalCode } from "../errors.js";
import { onClose } from "../util/on-close.js";
import { suiteOf } from "./cipher-suites.js";
import { CLIENT_TRAFFIC, isLabeled, LoggedSecrets, SERVER_HANDSHAKE } from "./logged-secrets.js";
import { chainOf } from "./peer-certificate.js";
import { RecordCounts } from "./record-counts.js";
import { encodeSecure } from "./secure-state.js";

interface Known {
  readonly counts: RecordCounts;
  readonly secrets: LoggedSecrets;
  stuck: Stuck | undefined;
}

/** Of a connection whose records cannot be counted. */
interface Stuck {
  /** Of the last look at which bytes had come, and its moment in ms of `performance.now()`. */
  readonly mark: number;
  readonly since: number;
  readonly records: number;
  readonly excess: number;
  /** Looks in a row at which records had come, and the excess had not fallen. */
  readonly looks: number;
}

/**
 * Notes what a TLS server's own connections need to move: their secrets, which Node logs, and how many records they have
 * carried. For each record that costs one call of a function.
 */
export class RecordWatch {
  readonly #server: TlsServer;
  readonly #known = new WeakMap<Socket, Known>();

  constructor(server: TlsServer) {
    this.#server = server;
    server.on("keylog", this.#onKey);
    server.prependListener("secureConnection", this.#onSecure);
    // Behind Node's own listener, which gives the connection to an HTTP parser.
    server.on("secureConnection", this.#onAccepted);
  }

  dispose(): void {
    const server = this.#server;
    server.removeListener("keylog", this.#onKey);
    server.removeListener("secureConnection", this.#onSecure);
    server.removeListener("secureConnection", this.#onAccepted);
  }

  /** Why a connection does not move; "busy" if it may move later, undefined if it can move now. */
  obstacle(socket: TLSSocket): RefusalCode | "busy" | undefined {
    if (socket.alpnProtocol === "h2") return "ERR_HTTP2";
    if (socket.destroyed || !socket.writable || socket.readableEnded) return "busy";
    if (socket.getProtocol() !== "TLSv1.3") return "ERR_TLS_VERSION";
    const suite = suiteOf(socket.getCipher().standardName);
    if (suite === undefined) return "ERR_TLS_CIPHER";
    const known = this.#known.get(socket);
    if (known === undefined || !known.secrets.isComplete || !hasDescriptor(socket)) return "ERR_TLS_RECORDS";
    const position = known.counts.position(suite.hashLength);
    if (typeof position === "object") {
      known.stuck = undefined;
      return undefined;
    }
    if (position === "certificate") return "ERR_TLS_CERTIFICATE";
    // Its client may take a large response slowly.
    if (position !== "unsent") return isStuck(known, socket) ? "ERR_TLS_RECORDS" : "busy";
    if (known.stuck !== undefined) known.stuck = { ...known.stuck, since: performance.now() };
    return "busy";
  }

  /** Where a connection stands, with copies of its secrets: the caller erases them. Undefined if it cannot move now. */
  freeze(socket: TLSSocket): Buffer | undefined {
    if (this.obstacle(socket) !== undefined) return undefined;
    const { counts, secrets } = this.#known.get(socket)!;
    const cipher = socket.getCipher();
    const suite = suiteOf(cipher.standardName)!;
    const position = counts.position(suite.hashLength);
    if (typeof position !== "object") return undefined;
    const { alpnProtocol, authorized, authorizationError } = socket;
    const servername = (socket as { servername?: string | false }).servername ?? false;
    const [received, sent, exporter] = [
      secrets.get("CLIENT_TRAFFIC_SECRET_0"),
      secrets.get("SERVER_TRAFFIC_SECRET_0"),
      secrets.get("EXPORTER_SECRET"),
    ];
    const [largestRecord, recordLimit] = counts.largestRecord;
    const frozen = encodeSecure({
      suite,
      receiving: { secret: received, sequence: position.receiving },
      sending: { secret: sent, sequence: position.sending },
      exporter,
      largestRecord,
      recordLimit,
      halfRecord: undefined,
      owesUpdate: false,
      facts: {
        cipher,
        isReused: socket.isSessionReused(),
        alpnProtocol,
        servername,
        authorized,
        authorizationError: authorizationError == null ? null : String(authorizationError),
      },
      peerCertificates: chainOf(socket),
    });
    for (const secret of [received, sent, exporter]) secret.fill(0);
    return frozen;
  }

  /** Runs five times in a handshake. */
  readonly #onKey = (line: Buffer, socket: TLSSocket): void => {
    const { counts, secrets } = this.#known.get(socket) ?? this.#begin(socket);
    if (isLabeled(line, SERVER_HANDSHAKE)) counts.onClientHello();
    if (isLabeled(line, CLIENT_TRAFFIC)) counts.onClientFinished();
    secrets.note(line);
    // The program may log the keys itself, and `node --tls-keylog` writes the line later, by a listener of the socket beside the one
    // that tells the server. Node's own `fill()` takes ten times as long.
    if (this.#server.listenerCount("keylog") > 1 || socket.listenerCount("keylog") > 1) return;
    Uint8Array.prototype.fill.call(line, 0);
  };

  #begin(socket: TLSSocket): Known {
    const known = { counts: new RecordCounts(socket), secrets: new LoggedSecrets(), stuck: undefined };
    this.#known.set(socket, known);
    socket.on("close", this.#onClose);
    return known;
  }

  /** The same for all connections: Node calls it as one of the socket. */
  readonly #onClose = onClose((socket) => this.#known.get(socket)?.secrets.erase());

  readonly #onSecure = (socket: TLSSocket): void => {
    if (secureStreams(socket) !== undefined) this.#known.get(socket)?.counts.onSecure();
  };

  readonly #onAccepted = (socket: TLSSocket): void => {
    this.#known.get(socket)?.counts.onAccepted();
  };
}

/**
 * Half a record comes to its end within some time, or its client sends nothing. And the excess is that of a half which comes next:
 * sooner or later it is less than before, unless padding and KeyUpdates make it.
 */
function isStuck(known: Known, socket: TLSSocket): boolean {
  const { mark, records, excess } = known.counts;
  const now = performance.now();
  let stuck = known.stuck ?? { mark, since: now, records, excess, looks: 0 };
  if (stuck.mark !== mark) {
    const isCounted = records > stuck.records;
    const looks = !isCounted ? stuck.looks : excess >= stuck.excess ? stuck.looks + 1 : 0;
    stuck = { mark, since: now, records, excess, looks };
  }
  known.stuck = stuck;
  return stuck.looks >= LOOKS || (now - stuck.since >= STUCK_AFTER && !hasUnread(socket));
}

/** Whether the rest may have come: the program does not read, as it cannot keep up with an upload. */
function hasUnread(socket: TLSSocket): boolean {
  return native().connectionCounters(descriptorOf(socket), counted) === 0 && counted[3]! > 0;
}

const counted = new Float64Array(4);

/** So often the excess of halves of random length falls at none of the looks once in 3,628,800 times. */
const LOOKS = 10;

/** ms */
const STUCK_AFTER = 1_000;
