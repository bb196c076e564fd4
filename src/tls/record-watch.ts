import type { Socket } from "node:net";
import type { Server as TlsServer, TLSSocket } from "node:tls";
import { secureStreams } from "../platform/tls-internals.js";
import type { RefusalCode } from "../errors.js";
import { suiteOf } from "./cipher-suites.js";
import { chainOf } from "./peer-certificate.js";
import { RecordCounts } from "./record-counts.js";
import { encodeSecure } from "./secure-state.js";

interface Known {
  readonly counts: RecordCounts;
  /** By Node's labels of the key log. */
  readonly secrets: Partial<Record<Secret, Buffer>>;
  /** Since when its records cannot be counted, in ms of `performance.now()`, and the mark of that moment. */
  stuck?: { readonly mark: number; readonly since: number };
}

const SECRETS = ["CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0", "EXPORTER_SECRET"] as const;

type Secret = (typeof SECRETS)[number];

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
    if (known === undefined || SECRETS.some((name) => known.secrets[name] === undefined))
      return "ERR_TLS_RECORDS";
    const position = known.counts.position(suite.hashLength);
    if (typeof position === "object") {
      delete known.stuck;
      return undefined;
    }
    if (position === "certificate") return "ERR_TLS_CERTIFICATE";
    return this.#isStuck(known) ? "ERR_TLS_RECORDS" : "busy";
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
    return encodeSecure({
      suite,
      receiving: { secret: secrets.CLIENT_TRAFFIC_SECRET_0!, sequence: position.receiving },
      sending: { secret: secrets.SERVER_TRAFFIC_SECRET_0!, sequence: position.sending },
      exporter: secrets.EXPORTER_SECRET,
      largestRecord: counts.largestRecord,
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
  }

  /** Half a record comes to its end within this time, or its client sends nothing. */
  #isStuck(known: Known): boolean {
    const { mark } = known.counts;
    const now = performance.now();
    if (known.stuck?.mark !== mark) known.stuck = { mark, since: now };
    return now - known.stuck.since >= STUCK_AFTER;
  }

  readonly #onKey = (line: Buffer, socket: TLSSocket): void => {
    const label = line.toString("latin1", 0, line.indexOf(SPACE));
    if (label === "SERVER_HANDSHAKE_TRAFFIC_SECRET") this.#knownOf(socket).counts.onClientHello();
    if (label === "CLIENT_TRAFFIC_SECRET_0") this.#knownOf(socket).counts.onClientFinished();
    if (isSecret(label)) {
      const { secrets } = this.#knownOf(socket);
      secrets[label] = fromHex(line, line.lastIndexOf(SPACE) + 1);
    }
    // The program may log the keys itself.
    if (this.#server.listenerCount("keylog") === 1) line.fill(0);
  };

  #knownOf(socket: TLSSocket): Known {
    const before = this.#known.get(socket);
    if (before !== undefined) return before;
    const known: Known = { counts: new RecordCounts(socket), secrets: {} };
    this.#known.set(socket, known);
    socket.once("close", () => forget(known));
    return known;
  }

  readonly #onSecure = (socket: TLSSocket): void => {
    if (secureStreams(socket) !== undefined) this.#known.get(socket)?.counts.onSecure();
  };

  readonly #onAccepted = (socket: TLSSocket): void => {
    this.#known.get(socket)?.counts.onAccepted();
  };
}

function forget({ secrets }: Known): void {
  for (const name of SECRETS) secrets[name]?.fill(0);
}

function isSecret(label: string): label is Secret {
  return (SECRETS as readonly string[]).includes(label);
}

/** Without a string, which could not be erased. */
function fromHex(line: Buffer, from: number): Buffer {
  let end = from;
  while (end < line.length && line[end]! > SPACE) end++;
  const bytes = Buffer.allocUnsafe((end - from) >> 1);
  for (let n = 0; n < bytes.length; n++) {
    bytes[n] = 16 * digitOf(line[from + 2 * n]!) + digitOf(line[from + 2 * n + 1]!);
  }
  return bytes;
}

/** Of a code of `0` to `9`, or of a small letter. */
function digitOf(code: number): number {
  return code < 0x3a ? code - 0x30 : code - 0x57;
}

const SPACE = 32;

/** ms */
const STUCK_AFTER = 1_000;
