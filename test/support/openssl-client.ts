import { spawn, type ChildProcessByStdio } from "node:child_process";
import { once } from "node:events";
import type { AddressInfo, Socket } from "node:net";
import type { Readable, Writable } from "node:stream";
import { createServer, type TLSSocket } from "node:tls";
import { onTestFinished } from "vitest";
import { RecordWatch } from "../../dist/tls/record-watch.js";
import { selfSigned } from "./client.js";
import { receive } from "./tls-pair.js";

/** `openssl s_client`, which can do what Node's client cannot. A line of one letter is a command to it. */
export class OpensslClient {
  readonly watch: RecordWatch;
  /** The server's socket. */
  readonly socket: TLSSocket;
  readonly #process: ChildProcessByStdio<Writable, Readable, Readable>;
  #shown = "";

  static async connect(...options: string[]): Promise<OpensslClient> {
    const server = createServer(selfSigned());
    const watch = new RecordWatch(server);
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    const accepted = once(server, "secureConnection") as Promise<[TLSSocket]>;
    const words = ["s_client", "-connect", `127.0.0.1:${port}`, ...options];
    const process = spawn("openssl", words, { stdio: "pipe" });
    onTestFinished(() => {
      process.kill("SIGKILL");
      server.close();
    });
    const [socket] = await accepted;
    onTestFinished(() => void socket.destroy());
    return new OpensslClient(
      process,
      socket.on("error", () => {}),
      watch,
    );
  }

  private constructor(
    process: ChildProcessByStdio<Writable, Readable, Readable>,
    socket: TLSSocket,
    watch: RecordWatch,
  ) {
    this.#process = process;
    this.socket = socket;
    this.watch = watch;
    process.stderr.resume();
    process.stdout.setEncoding("latin1").on("data", (text: string) => (this.#shown += text));
  }

  /** Sends a KeyUpdate: `K` asks the server for one, too. It must not come together with other input. */
  async updateKeys(letter: "K" | "k"): Promise<void> {
    this.#process.stdin.write(`${letter}\n`);
    const [told] = (await once(this.#process.stderr, "data")) as [Buffer];
    if (!String(told).includes("KEYUPDATE")) throw new Error(String(told));
  }

  /** Sends a line; resolves when `to` has received it. */
  async say(to: Socket, line: string): Promise<string> {
    const received = receive(to, line.length + 1);
    this.#process.stdin.write(`${line}\n`);
    if ((await received) !== `${line}\n`) throw new Error("another line arrived");
    return line;
  }

  /** Sends a line from the server; resolves when the client has shown it. */
  async hear(from: Socket, line: string): Promise<void> {
    from.write(`${line}\n`);
    while (!this.#shown.includes(line)) await once(this.#process.stdout, "data");
  }
}
