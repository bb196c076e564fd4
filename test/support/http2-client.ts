import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { onTestFinished } from "vitest";

/** One HTTP/2 connection, frame by frame: unlike Node's client it opens streams whatever it was told. */
export class Http2Client {
  /** The number of the last stream in each GOAWAY that has arrived. */
  readonly goaways: number[] = [];
  /** The bodies of the streams that were answered to the end, by their numbers. */
  readonly answers = new Map<number, string>();
  /** Resolves when the server has ended the connection. */
  readonly ended: Promise<unknown>;
  readonly #socket: Socket;
  readonly #bodies = new Map<number, string>();
  readonly #waiting = new Set<() => void>();
  #received = Buffer.alloc(0);
  #next = 1;

  static async open(port: number, protocol: "h2c" | "h2"): Promise<Http2Client> {
    const where = { port, host: "127.0.0.1" };
    const options = { ...where, ALPNProtocols: ["h2"], rejectUnauthorized: false };
    const socket = protocol === "h2" ? connectTls(options) : connect(where);
    await once(socket, protocol === "h2" ? "secureConnect" : "connect");
    return new Http2Client(socket);
  }

  private constructor(socket: Socket) {
    this.#socket = socket;
    this.ended = new Promise((resolve) => socket.once("close", resolve));
    socket.on("error", () => {});
    socket.on("data", (chunk: Buffer) => this.#read(chunk));
    onTestFinished(() => void socket.destroy());
    socket.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    this.#send(SETTINGS, 0, 0, Buffer.alloc(0));
    // Room for any number of small answers; one stream has the window of the protocol, 64 KiB.
    this.#send(WINDOW_UPDATE, 0, 0, Buffer.from([0x3f, 0, 0, 0]));
  }

  /** Opens a stream. Returns its number. */
  request(path: string): number {
    const stream = this.#next;
    this.#next += 2;
    // HPACK: GET and http from the static table, :authority and :path as literals.
    const head = [Buffer.from([0x82, 0x86, 0x01]), text("a"), Buffer.from([0x04]), text(path)];
    this.#send(HEADERS, END_HEADERS | END_STREAM, stream, Buffer.concat(head));
    return stream;
  }

  /** The body of a stream that is answered to the end. */
  async answer(stream: number): Promise<string> {
    await this.#until(() => this.answers.has(stream));
    return this.answers.get(stream)!;
  }

  /** Waits for the GOAWAY frames that have arrived by then. */
  async untilGoaways(count: number): Promise<void> {
    await this.#until(() => this.goaways.length >= count);
  }

  /** Opens a stream whenever one is answered, until the server has ended the connection. */
  async requestUntilEnd(path: string): Promise<void> {
    while (!this.#socket.closed) {
      const stream = this.request(path);
      await Promise.race([this.answer(stream), this.ended]);
    }
  }

  /** Opens a stream whenever one is answered, until the server tells not to. Returns their numbers. */
  async requestUntilGoaway(path: string): Promise<number[]> {
    const streams: number[] = [];
    while (this.goaways.length === 0) {
      streams.push(this.request(path));
      await this.answer(streams.at(-1)!);
    }
    return streams;
  }

  async #until(holds: () => boolean): Promise<void> {
    while (!holds()) await new Promise<void>((resolve) => this.#waiting.add(resolve));
  }

  #send(type: number, flags: number, stream: number, payload: Buffer): void {
    const head = Buffer.alloc(9);
    head.writeUIntBE(payload.length, 0, 3);
    head[3] = type;
    head[4] = flags;
    head.writeUInt32BE(stream, 5);
    this.#socket.write(Buffer.concat([head, payload]));
  }

  #read(chunk: Buffer): void {
    this.#received = Buffer.concat([this.#received, chunk]);
    for (let size; this.#received.length >= (size = 9 + this.#received.readUIntBE(0, 3));) {
      const [, , , type, flags] = this.#received;
      this.#take(type!, flags!, this.#received.readUInt32BE(5), this.#received.subarray(9, size));
      this.#received = this.#received.subarray(size);
      if (this.#received.length < 9) break;
    }
    for (const wake of this.#waiting) wake();
    this.#waiting.clear();
  }

  #take(type: number, flags: number, stream: number, payload: Buffer): void {
    if (type === SETTINGS && (flags & ACK) === 0) this.#send(SETTINGS, ACK, 0, Buffer.alloc(0));
    if (type === GOAWAY) this.goaways.push(payload.readUInt32BE(0));
    if (type !== DATA && type !== HEADERS) return;
    const chunk = type === DATA ? payload.toString("latin1") : "";
    const body = (this.#bodies.get(stream) ?? "") + chunk;
    this.#bodies.set(stream, body);
    if ((flags & END_STREAM) !== 0) this.answers.set(stream, body);
  }
}

/** A text of HPACK, of at most 126 bytes. */
function text(value: string): Buffer {
  return Buffer.from([value.length, ...Buffer.from(value)]);
}

/** Types of frames, and flags. */
const [DATA, HEADERS, SETTINGS, GOAWAY, WINDOW_UPDATE] = [0, 1, 4, 7, 8];
const [ACK, END_STREAM, END_HEADERS] = [0x1, 0x1, 0x4];
