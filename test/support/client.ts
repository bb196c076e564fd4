import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { connect as connectTls } from "node:tls";
import { onTestFinished } from "vitest";
import { temporaryDirectory } from "./service.js";

/** One connection, byte for byte. */
export class Client {
  readonly socket: Socket;
  /** Everything that has come. */
  text = "";
  /** Resolves when the server has ended the connection, with why if it was no ordinary end. */
  readonly ended: Promise<string>;

  static async open(port: number, localAddress?: string): Promise<Client> {
    const socket = connect({ port, host: "127.0.0.1", localAddress });
    await once(socket, "connect");
    return new Client(socket);
  }

  static async openTls(port: number): Promise<Client> {
    const socket = connectTls({ port, host: "127.0.0.1", rejectUnauthorized: false });
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

  /** The next bytes up to what matches; they are not seen again. */
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

  /** Waits until so many bytes are there. */
  async receives(length: number): Promise<void> {
    while (this.text.length < length) {
      await Promise.race([once(this.socket, "data"), this.ended.then((how) => this.#missing(/$^/, how))]);
    }
  }

  /** The next response: its header and its body, the PID of who answered. */
  async response(): Promise<{ close: boolean; pid: number }> {
    const header = await this.until(/\r\n\r\n/);
    const length = Number(/content-length: (\d+)/i.exec(header)?.[1]);
    const body = await this.until(new RegExp(`^.{${length}}`));
    return { close: /connection: close/i.test(header), pid: Number(body) };
  }

  #missing(pattern: RegExp, how: string): void {
    if (!pattern.test(this.text)) throw new Error(`${how} before ${String(pattern)}: ${this.text}`);
  }
}

/** A key and a certificate that nobody trusts. */
export function selfSigned(): { key: string; cert: string } {
  const directory = temporaryDirectory();
  const [key, cert] = [join(directory, "key"), join(directory, "cert")];
  const request =
    "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=localhost";
  execFileSync("openssl", [...request.split(" "), "-keyout", key, "-out", cert], { stdio: "pipe" });
  return { key: readFileSync(key, "utf8"), cert: readFileSync(cert, "utf8") };
}
