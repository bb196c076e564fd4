import { writeSync } from "node:fs";
import { Socket } from "node:net";
import { Writable } from "node:stream";
import { check, native, POLL } from "../platform/native.js";
import { closeAll } from "../platform/descriptors.js";
import type { Command } from "../process/command.js";
import type { SpawnedProcess } from "../process/spawn.js";
import { withTimeout } from "../util/timeout.js";
import { LinePrefixer } from "./line-prefixer.js";
import { startWorker } from "./worker-command.js";

/** Starts workers whose lines are passed on with their index before each. */
export class PrefixedOutput {
  readonly #outlets = [new Outlet(1), new Outlet(2)] as const;
  /** Resolve when the stream of a worker has ended. */
  readonly #reading = new Set<Promise<void>>();

  /** As `startWorker()`. */
  async start(command: Command, channel: number, env: NodeJS.ProcessEnv): Promise<SpawnedProcess> {
    const streams: { own: number; outlet: Outlet }[] = [];
    const others: number[] = [];
    try {
      for (const outlet of this.#outlets) {
        const [own, other] = check(native().streamPair(), "make", "a pair of sockets");
        streams.push({ own, outlet });
        others.push(other);
      }
      const child = await startWorker(command, channel, env, [0, ...others]);
      const prefix = `[${command.env["HANDOVER_WORKER"]}] `;
      for (const { own, outlet } of streams.splice(0)) this.#read(own, outlet, prefix);
      return child;
    } finally {
      closeAll([...others, ...streams.map(({ own }) => own)]);
    }
  }

  /** Resolves when everything was passed on that dead workers have written; at the latest after a second. */
  async end(): Promise<void> {
    const all = Promise.all(this.#reading).then(async () =>
      Promise.all(this.#outlets.map(async (one) => one.drained())),
    );
    await withTimeout(LAST_WORDS, all);
    for (const outlet of this.#outlets) outlet.destroy();
  }

  #read(fd: number, outlet: Outlet, prefix: string): void {
    const socket = new Socket({ fd, readable: true, writable: false });
    const lines = new LinePrefixer(prefix);
    // While what this process prints is not read a worker waits, as it would without a prefix.
    const pass = (bytes: Uint8Array): void => {
      if (bytes.length === 0 || outlet.write(bytes)) return;
      socket.pause();
      outlet.once("drain", () => socket.resume());
    };
    socket.on("data", (chunk: Buffer) => pass(lines.add(chunk)));
    socket.on("error", () => socket.destroy());
    const closed = new Promise<void>((resolve) => {
      socket.once("close", () => {
        outlet.write(lines.end());
        resolve();
      });
    });
    this.#reading.add(closed);
    void closed.then(() => this.#reading.delete(closed));
  }
}

/**
 * A descriptor of this process that is written to without blocking it: `process.stdout` would stop the supervisor while a pipe
 * is not read. The flags of the descriptor stay as they are, as other processes share it.
 */
class Outlet extends Writable {
  readonly #fd: number;
  #retry: NodeJS.Timeout | undefined;

  constructor(fd: number) {
    super({ highWaterMark: HIGH });
    // One waits for each worker.
    this.setMaxListeners(0);
    this.#fd = fd;
  }

  /** Resolves when everything was written. */
  async drained(): Promise<void> {
    await new Promise<void>((resolve) => void this.write("", () => resolve()));
  }

  override _write(chunk: Uint8Array, encoding: string, done: (error?: Error | null) => void): void {
    let rest = chunk;
    try {
      while (rest.length > 0 && native().poll(this.#fd, POLL.writable, 0) !== 0)
        rest = rest.subarray(writeSync(this.#fd, rest.subarray(0, ATOMIC)));
    } catch (error) {
      // Where no process reads it any longer it is lost, which must not end the service.
      if ((error as NodeJS.ErrnoException).code !== "EAGAIN") return done();
    }
    if (rest.length === 0) done();
    else this.#retry = setTimeout(() => this._write(rest, encoding, done), RETRY_AFTER);
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    clearTimeout(this.#retry);
    done(error);
  }
}

/** Bytes that wait to be written before the workers have to wait. */
const HIGH = 65_536;

/** Bytes that a pipe takes without blocking if it can be written to. */
const ATOMIC = 4_096;

/** ms */
const RETRY_AFTER = 20;

/** ms in which what dead workers have written is passed on. */
const LAST_WORDS = 1_000;
