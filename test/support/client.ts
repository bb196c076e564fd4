import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { connect, type NetConnectOpts, type Socket } from "node:net";
import { join } from "node:path";
import { connect as connectTls, type ConnectionOptions } from "node:tls";
import { onTestFinished } from "vitest";
import { temporaryDirectory } from "./service.js";

/** One HTTP/1.1 connection, byte for byte. */
export class Client {
  readonly socket: Socket;
  /** The bytes that have arrived, and were not read by {@link until}. */
  text = "";
  /** Resolves when the server has ended the connection: `end`, or the code of the error. */
  readonly ended: Promise<string>;

  static async open(port: number, localAddress?: string): Promise<Client> {
    const socket = connect({ port, host: "127.0.0.1", localAddress });
    await once(socket, "connect");
    return new Client(socket);
  }

  static async openAll(port: number, count: number): Promise<Client[]> {
    return Promise.all(Array.from({ length: count }, () => Client.open(port)));
  }

  static async openTls(port: number, options: ConnectionOptions = {}): Promise<Client> {
    const socket = connectTls({ port, host: "127.0.0.1", rejectUnauthorized: false, ...options });
    await once(socket, "secureConnect");
    return new Client(socket);
  }

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.setEncoding("latin1").on("data", (chunk: string) => (this.text += chunk));
    this.ended = new Promise((resolve) => {
      socket.once("end", () => resolve("end"));
      socket.once("error", (error: NodeJS.ErrnoException) => resolve(error.code!));
    });
    onTestFinished(() => void socket.destroy());
  }

  /** Sends a request, or several at once. */
  request(...paths: string[]): void {
    this.socket.write(paths.map((path) => `GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`).join(""));
  }

  /** One request, and the body of its answer. */
  async ask(path = "/"): Promise<string> {
    this.request(path);
    return this.answer();
  }

  /** The body of the next response. Throws if the response closes the connection. */
  async answer(): Promise<string> {
    const { head, body, closes } = await this.response();
    if (closes) throw new Error(`the connection was to be kept: ${head}`);
    return body;
  }

  async response(): Promise<Response> {
    const head = await this.until(/\r\n\r\n/);
    const closes = /^connection: close/im.test(head);
    const length = /^content-length: (\d+)/im.exec(head)?.[1];
    if (length !== undefined) {
      await this.receives(Number(length));
      return { head, body: await this.until(new RegExp(`^[^]{${length}}`)), closes };
    }
    if (!/^transfer-encoding: chunked/im.test(head)) return { head, body: "", closes };
    return { head, body: await this.until(/^0\r\n[^]*?\r\n/m), closes };
  }

  /** Takes the bytes up to the end of the match. */
  async until(pattern: RegExp): Promise<string> {
    for (;;) {
      const found = pattern.exec(this.text);
      if (found !== null) {
        const end = found.index + found[0].length;
        const seen = this.text.slice(0, end);
        this.text = this.text.slice(end);
        return seen;
      }
      await Promise.race([once(this.socket, "data"), this.ended.then((how) => this.#missing(pattern, how))]);
    }
  }

  /** Waits until `length` bytes have arrived. */
  async receives(length: number): Promise<void> {
    while (this.text.length < length) {
      await Promise.race([once(this.socket, "data"), this.ended.then((how) => this.#missing(/$^/, how))]);
    }
  }

  #missing(pattern: RegExp, how: string): void {
    if (!pattern.test(this.text)) throw new Error(`${how} before ${String(pattern)}: ${this.text}`);
  }
}

export interface Response {
  head: string;
  body: string;
  /** Whether the connection ends with it. */
  closes: boolean;
}

/** The text that a server sends until it ends the connection; or the code of the error, if there is none. */
export function readAll(where: NetConnectOpts): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(where);
    let text = "";
    socket.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
    socket.on("end", () => resolve(text));
    socket.on("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
  });
}

/** The place at which a server can be reached on this machine, by its `address()`. */
export function target(address: unknown): NetConnectOpts {
  if (typeof address === "string") return { path: address };
  const { port, family, address: host } = address as { port: number; family: string; address: string };
  if (host === "::" || host === "0.0.0.0") return { port, host: family === "IPv6" ? "::1" : "127.0.0.1" };
  return { port, host };
}

/** A self-signed key and certificate. */
export function selfSigned(...extensions: string[]): { key: string; cert: string } {
  const directory = temporaryDirectory();
  const [key, cert] = [join(directory, "key"), join(directory, "cert")];
  const request =
    "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=localhost";
  const more = extensions.flatMap((extension) => ["-addext", extension]);
  execFileSync("openssl", [...request.split(" "), ...more, "-keyout", key, "-out", cert], { stdio: "pipe" });
  return { key: readFileSync(key, "utf8"), cert: readFileSync(cert, "utf8") };
}
