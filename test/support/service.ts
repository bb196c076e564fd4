import { spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, readdirSync, readlinkSync, readFileSync, rmSync } from "node:fs";
import { request, type Agent } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { onTestFinished } from "vitest";
import { readStat } from "../../dist/platform/proc.js";
import { Output } from "./output.js";

/** One line that a fixture program prints: the process, the event and its fields. */
export interface Line {
  pid: number;
  generation: number;
  event: string;
  [field: string]: unknown;
}

export interface StartOptions {
  /** The fixture's first argument: options of its Upgrader, and settings of its own. */
  settings?: object;
  /** Before the script: `--import x`. */
  nodeArgs?: string[];
  env?: NodeJS.ProcessEnv;
  cwd?: string;
  /** The words to start instead of `node <fixture>`. */
  command?: string[];
}

/** Options of an Upgrader whose probation ends soon, so that its successor can upgrade again. */
export const brief = { probation: 50 };

const FIXTURES = fileURLToPath(new URL("../fixtures/", import.meta.url));

/**
 * A service under test: a real process, and the generations that follow it. They share a process group and one pipe, on
 * which each prints a line of JSON for each event. The group is killed when the test ends.
 */
export class Service {
  /** How generation 0 ended. */
  readonly exited: Promise<[number | null, NodeJS.Signals | null]>;
  readonly #lines: Line[] = [];
  #noise = "";
  readonly #process: ChildProcess;
  readonly #outputs: readonly Output[];
  readonly #waiting = new Set<() => void>();
  /** What the test waits for. */
  readonly #waits = new Set<string>();
  readonly #closed: Promise<void>;
  #isClosed = false;

  /** Starts generation 0. */
  static start(fixture: string, options: StartOptions = {}): Service {
    const script = [...(options.nodeArgs ?? []), join(FIXTURES, fixture)];
    const [word = process.execPath, ...words] = options.command ?? [process.execPath, ...script];
    const args = options.command === undefined ? [...words, JSON.stringify(options.settings ?? {})] : words;
    const child = spawn(word, args, {
      cwd: options.cwd,
      detached: true,
      // Its own: sockets that killed services have left elsewhere would be asked at its start, each by a descriptor.
      env: { ...process.env, XDG_RUNTIME_DIR: temporaryDirectory(), ...options.env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    return new Service(child);
  }

  private constructor(child: ChildProcess) {
    this.#process = child;
    this.exited = new Promise((resolve) => child.once("exit", (code, signal) => resolve([code, signal])));
    let rest = "";
    const stdout = new Output(child.stdout!, (text) => {
      const lines = (rest + text).split("\n");
      rest = lines.pop()!;
      for (const line of lines) this.#take(line);
      this.#wake();
    });
    const stderr = new Output(child.stderr!, (text) => {
      this.#noise += text;
      this.#wake();
    });
    this.#outputs = [stdout, stderr];
    this.#closed = new Promise((resolve) =>
      child.once("close", () => {
        this.#isClosed = true;
        this.#wake();
        resolve();
      }),
    );
    onTestFinished(async ({ task }) => {
      // A test that waits in vain fails without a word about its service. The processes are looked at before they are killed.
      if (task.result?.state === "fail") console.error(this.#report());
      this.killAll();
      await this.#closed;
    });
  }

  /** Of generation 0. */
  get pid(): number {
    return this.#process.pid!;
  }

  /** All that was printed so far. */
  get lines(): readonly Line[] {
    this.#read();
    return this.#lines;
  }

  /** All output so far that is no line of JSON, that of stderr included. */
  get noise(): string {
    this.#read();
    return this.#noise;
  }

  /** The line with which the process that accepts now has said so: the newest one, or its predecessor after a rollback. */
  get accepting(): Line | undefined {
    const last = this.lines.findLast(({ event }) => event === "accepting" || event === "rollback");
    return this.lines.findLast(
      ({ event, generation }) => event === "accepting" && generation === last!.generation,
    );
  }

  /** The port of its first server. */
  get port(): number {
    for (const { event, port, address } of this.lines) {
      if (event === "accepting" && typeof port === "number") return port;
      if (event === "listening") return (address as { port: number }).port;
    }
    throw new Error("no process of the service has printed its port");
  }

  /** The body of the answer to one HTTP request to {@link port}, by default on a connection of its own. */
  async ask(path = "/", agent: Agent | false = false): Promise<string> {
    const { port } = this;
    return this.#wait(`an answer to ${path} on port ${port}`, ask(port, path, agent));
  }

  /**
   * Asks the process that accepts for an upgrade, by signal. Resolves with the successor's line of this event, by default
   * at the commit: the predecessor may still drain, and the successor be on probation.
   */
  async upgrade(event = "accepting", fields: Partial<Line> = {}): Promise<Line> {
    await this.until("accepting");
    const from = this.lines.length;
    process.kill(this.accepting!.pid, "SIGHUP");
    return this.until(event, fields, from);
  }

  /** Upgrades, and waits until the predecessor's drain and the successor's probation are over. */
  async replace(): Promise<Line> {
    await this.until("accepting");
    const { generation } = this.accepting!;
    const successor = await this.upgrade();
    await this.until("exited", { generation, outcome: "upgraded" });
    return successor;
  }

  /** Waits until the probation of a successor is over, so that it can upgrade again. Its predecessor has to live. */
  async confirmed(generation: number): Promise<Line> {
    return this.until("recorded", { generation, outcome: "confirmed" });
  }

  /** Stops the process that accepts, and waits until no process is left. */
  async stop(): Promise<void> {
    process.kill(this.accepting!.pid, "SIGTERM");
    await this.ended();
    const left = this.alive();
    if (left.length > 0) throw new Error(`the service has stopped, and left ${left.join(", ")}`);
  }

  /** Waits for the first line, from `from` on, of this event and with these fields. */
  async until(event: string, fields: Partial<Line> = {}, from = 0): Promise<Line> {
    const isMeant = (line: Line): boolean =>
      line.event === event && Object.entries(fields).every(([name, value]) => line[name] === value);
    return this.#when(() => this.lines.slice(from).find(isMeant), `${event} ${JSON.stringify(fields)}`);
  }

  /** Waits until the output that is no line of JSON matches. */
  async untilNoise(pattern: RegExp): Promise<string> {
    return this.#when(() => pattern.exec(this.noise)?.[0], String(pattern));
  }

  /** Waits until every process of the service has closed its output, as it does at its end. */
  async ended(): Promise<void> {
    await this.#wait("the end of every process", this.#closed);
  }

  /** The PIDs of all its processes that are alive; a process that has ended but was not reaped does not count. */
  alive(): number[] {
    return readdirSync("/proc")
      .filter((name) => /^\d+$/.test(name))
      .map(Number)
      .filter((pid) => groupOf(pid) === this.pid && hasMemory(pid));
  }

  /** Sends a signal to a process again and again, until it has exited. */
  async signalUntilExit(pid: number, signal: NodeJS.Signals): Promise<void> {
    for (;;) {
      const state = await Promise.race([this.exited, setImmediate("alive")]);
      if (state !== "alive" || !sendSignal(pid, signal)) return;
    }
  }

  /** The PIDs of the children of generation 0, those that have ended but were not reaped too. */
  children(): number[] {
    return childrenOf(this.pid);
  }

  killAll(): void {
    try {
      process.kill(-this.pid, "SIGKILL");
    } catch {
      // No process is left.
    }
  }

  async #when<T>(look: () => T | undefined, what: string): Promise<T> {
    for (;;) {
      const found = look();
      if (found !== undefined) return found;
      if (this.#isClosed) throw new Error(`the service ended without ${what}\n${this.transcript()}`);
      await this.#wait(what, new Promise<void>((resolve) => this.#waiting.add(resolve)));
    }
  }

  async #wait<T>(what: string, work: Promise<T>): Promise<T> {
    this.#waits.add(what);
    return work.finally(() => this.#waits.delete(what));
  }

  /** What explains a failure: the output, what the test waits for, and what each process does. */
  #report(): string {
    const waits = [...this.#waits].map((what) => `the test waits for ${what}`);
    return [this.transcript(), ...waits, ...this.alive().map(describeProcess)].join("\n");
  }

  /** All output, for the message of a failing test. */
  transcript(): string {
    return [...this.lines.map((line) => JSON.stringify(line)), this.noise].join("\n");
  }

  #read(): void {
    for (const output of this.#outputs) output.read();
  }

  #take(line: string): void {
    try {
      this.#lines.push(JSON.parse(line) as Line);
    } catch {
      this.#noise += `${line}\n`;
    }
  }

  #wake(): void {
    for (const wake of this.#waiting) wake();
    this.#waiting.clear();
  }
}

/** False if the process has exited. */
function sendSignal(pid: number, signal: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, signal);
  } catch {
    return false;
  }
}

/** The body of the answer to one HTTP request. */
export function ask(port: number, path = "/", agent: Agent | false = false): Promise<string> {
  return new Promise((resolve, reject) => {
    const asked = request({ port, path, host: "127.0.0.1", agent }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
      response.once("end", () => resolve(text)).once("error", reject);
    });
    asked.once("error", reject).end();
  });
}

/** A directory that is removed at the end of the test. */
export function temporaryDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), "handover-"));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** The PIDs of a process's children, those that have ended but were not reaped too. */
export function childrenOf(parent: number): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => statOf(pid)?.[1] === String(parent));
}

/** How many descriptors a process has. */
export function descriptorCount(pid: number): number {
  return openDescriptors(pid).length;
}

/** The descriptors of a process, without those of files that it is reading: of `/proc`, and of the rest of the package. */
export function openDescriptors(pid: number): number[] {
  const directory = `/proc/${pid}/fd`;
  return readdirSync(directory).flatMap((fd) => {
    try {
      return /^\/proc\/|\.cjs$/.test(readlinkSync(`${directory}/${fd}`)) ? [] : [Number(fd)];
    } catch {
      // It is closed by now; this process has read its own directory by one.
      return [];
    }
  });
}

/** The field `pgrp` of proc(5)'s stat. */
function groupOf(pid: number): number | undefined {
  const group = statOf(pid)?.[2];
  return group === undefined ? undefined : Number(group);
}

/** Fields of proc(5)'s stat: the state, the parent, and the ticks of processor time. */
function describeProcess(pid: number): string {
  const [state, parent, ...rest] = statOf(pid) ?? [];
  return `process ${pid} of parent ${parent}: state ${state}, ${rest[9]} ticks in its program, ${rest[10]} in the kernel`;
}

/** Undefined of a process that is gone. */
function statOf(pid: number): string[] | undefined {
  try {
    return readStat(pid);
  } catch {
    return undefined;
  }
}

/** A process that ends gives up its memory, and with it its words, before it closes its descriptors. */
function hasMemory(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`).length > 0;
  } catch {
    return false;
  }
}
