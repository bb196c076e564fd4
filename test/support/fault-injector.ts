import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll } from "vitest";
import type { MessageType } from "../../dist/channel/messages.js";
import { temporaryDirectory } from "./service.js";

/**
 * The functions that can fail. `dup` is fcntl(F_DUPFD_CLOEXEC) too, `open` openat(2), `accept4` accept(2), `addchdir`
 * posix_spawn_file_actions_addchdir_np(3).
 */
export type FaultyFunction =
  | "accept4"
  | "addchdir"
  | "bind"
  | "dup"
  | "fork"
  | "getsockopt"
  | "link"
  | "listen"
  | "memfd_create"
  | "open"
  | "pidfd_open"
  | "pidfd_send_signal"
  | "posix_spawn"
  | "recvmsg"
  | "rename"
  | "sendmsg"
  | "setsockopt"
  | "shutdown"
  | "socketpair"
  | "unlink";

export interface Fault {
  /** The processes of the service that run node, in the order in which they started: 0 is the first one. */
  process: number;
  function: FaultyFunction;
  /** The call that fails, or the first and the last one. The first call is 1. */
  calls: number | [first: number, last: number];
  error: keyof typeof constants.errno;
}

/** A signal that a process gets when it is about to send a message of a type for the nth time. */
export interface SignalAtMessage {
  process: number;
  type: MessageType;
  nth: number;
  signal: NodeJS.Signals;
}

/** How often a function was called, and how many of these calls had a fault. */
export interface Calls {
  calls: number;
  failed: number;
}

/**
 * Makes calls of libc fail in the processes of one service; see `test/fixtures/fault-injector.c`. Nothing is counted
 * before {@link arm}.
 */
export class FaultInjector {
  /** Belongs into the environment of the first process; successors have it from there. */
  readonly env: NodeJS.ProcessEnv;
  readonly #directory: string;

  /** @param sendBuffer of the channels, in bytes: what the kernel gives at first, and the most that can be asked for */
  constructor(sendBuffer?: { first: number; largest: number }) {
    this.#directory = temporaryDirectory();
    const { first, largest } = sendBuffer ?? {};
    this.env = {
      ...(sendBuffer === undefined ? {} : { FAULT_SEND_BUFFER: `${first} ${largest}` }),
      LD_PRELOAD: (library ??= compile()),
      FAULT_DIRECTORY: this.#directory,
      FAULT_PROGRAM: process.execPath,
    };
  }

  /** Counts from now on, in each process, and lets these calls fail. Once. */
  arm(...faults: (Fault | SignalAtMessage)[]): void {
    const lines = faults.map((fault) => {
      if ("signal" in fault) {
        const { process: of, type, nth, signal } = fault;
        return `${of} sendmsg/${type} ${nth} ${nth} -${constants.signals[signal]}\n`;
      }
      const { process: of, function: name, calls, error } = fault;
      const [first, last] = typeof calls === "number" ? [calls, calls] : calls;
      return `${of} ${name} ${first} ${last} ${constants.errno[error]}\n`;
    });
    // A process must not read the half of it.
    const whole = join(this.#directory, "faults-being-written");
    writeFileSync(whole, lines.join(""));
    renameSync(whole, join(this.#directory, "faults"));
  }

  /** What a process has called since; undefined if it has not been started. */
  counts(of: number): Record<FaultyFunction, Calls> | undefined {
    let bytes: Buffer;
    try {
      bytes = readFileSync(join(this.#directory, `process-${of}`));
    } catch {
      return undefined;
    }
    const counts: Record<string, Calls> = {};
    for (let at = 0; at < bytes.length; at += RECORD) {
      const name = bytes.toString("latin1", at, bytes.indexOf(0, at));
      const read = (offset: number): number =>
        new DataView(bytes.buffer, bytes.byteOffset + at + offset).getUint32(0, true);
      counts[name] = { calls: read(24), failed: read(28) };
    }
    return counts;
  }
}

/** `struct counter`: a name of 24 bytes, and two numbers of 4. */
const RECORD = 32;

/** The compiled library, of all tests of a file. */
let library: string | undefined;

afterAll(() => {
  if (library !== undefined) rmSync(join(library, ".."), { recursive: true });
});

function compile(): string {
  const source = fileURLToPath(new URL("../fixtures/fault-injector.c", import.meta.url));
  const compiled = join(mkdtempSync(join(tmpdir(), "handover-faults-")), "fault-injector.so");
  const flags = ["-std=gnu11", "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror"];
  execFileSync("cc", [...flags, "-o", compiled, source, "-ldl", "-pthread"], { stdio: "inherit" });
  return compiled;
}
