import { spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { onTestFinished } from "vitest";

/** One line of a fixture program: who says it, and what. */
export interface Line {
  pid: number;
  generation: number;
  event: string;
  [field: string]: unknown;
}

export interface StartOptions {
  /** Options of the fixture's Upgrader, and whatever else it reads from its first argument. */
  settings?: object;
  /** Before the script: `--import x`. */
  nodeArgs?: string[];
  env?: NodeJS.ProcessEnv;
  cwd?: string;
  /** The words to start instead of `node <fixture>`. */
  command?: string[];
}

const FIXTURES = fileURLToPath(new URL("../fixtures/", import.meta.url));

/**
 * A service under test: a real process, and whatever generations follow it. They share a process group and one
 * pipe, on which each prints a line of JSON for whatever happens. The group is killed when the test ends.
 */
export class Service {
  readonly lines: Line[] = [];
  /** Everything that was printed and is no line of JSON; stderr too. */
  noise = "";
  /** How generation 0 ended. */
  readonly exited: Promise<[number | null, NodeJS.Signals | null]>;
  readonly #process: ChildProcess;
  readonly #waiting = new Set<() => void>();
  readonly #closed: Promise<void>;
  #isClosed = false;

  static start(fixture: string, options: StartOptions = {}): Service {
    const script = [...(options.nodeArgs ?? []), join(FIXTURES, fixture)];
    const [word = process.execPath, ...words] = options.command ?? [process.execPath, ...script];
    const args = options.command === undefined ? [...words, JSON.stringify(options.settings ?? {})] : words;
    const child = spawn(word, args, {
      cwd: options.cwd,
      detached: true,
      env: { ...withoutCertificates(), ...options.env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    return new Service(child);
  }

  private constructor(child: ChildProcess) {
    this.#process = child;
    this.exited = new Promise((resolve) => child.once("exit", (code, signal) => resolve([code, signal])));
    let rest = "";
    child.stdout!.setEncoding("utf8").on("data", (chunk: string) => {
      const lines = (rest + chunk).split("\n");
      rest = lines.pop()!;
      for (const line of lines) this.#read(line);
      this.#wake();
    });
    child.stderr!.setEncoding("utf8").on("data", (chunk: string) => {
      this.noise += chunk;
      this.#wake();
    });
    this.#closed = new Promise((resolve) =>
      child.once("close", () => {
        this.#isClosed = true;
        this.#wake();
        resolve();
      }),
    );
    onTestFinished(async () => {
      this.killAll();
      await this.#closed;
    });
  }

  /** Of generation 0. */
  get pid(): number {
    return this.#process.pid!;
  }

  /** The first line, from `from` on, of this event and with these fields; waits for it. */
  async until(event: string, fields: Partial<Line> = {}, from = 0): Promise<Line> {
    const isMeant = (line: Line): boolean =>
      line.event === event && Object.entries(fields).every(([name, value]) => line[name] === value);
    return this.#when(() => this.lines.slice(from).find(isMeant), `${event} ${JSON.stringify(fields)}`);
  }

  /** Waits until something was printed that matches. */
  async untilNoise(pattern: RegExp): Promise<string> {
    return this.#when(() => pattern.exec(this.noise)?.[0], String(pattern));
  }

  /** Waits until every process of the service has ended, and closed its output. */
  async ended(): Promise<void> {
    await this.#closed;
  }

  /** The PIDs of all its processes that are alive; not of those that have ended, but have not been reaped. */
  alive(): number[] {
    return readdirSync("/proc")
      .filter((name) => /^\d+$/.test(name))
      .map(Number)
      .filter((pid) => groupOf(pid) === this.pid && hasMemory(pid));
  }

  killAll(): void {
    try {
      process.kill(-this.pid, "SIGKILL");
    } catch {
      // There is nobody left.
    }
  }

  async #when<T>(look: () => T | undefined, what: string): Promise<T> {
    for (;;) {
      const found = look();
      if (found !== undefined) return found;
      if (this.#isClosed) throw new Error(`the service ended without ${what}\n${this.transcript()}`);
      await new Promise<void>((resolve) => this.#waiting.add(resolve));
    }
  }

  /** What the service has said, for a failing test's message. */
  transcript(): string {
    return [...this.lines.map((line) => JSON.stringify(line)), this.noise].join("\n");
  }

  #read(line: string): void {
    try {
      this.lines.push(JSON.parse(line) as Line);
    } catch {
      this.noise += `${line}\n`;
    }
  }

  #wake(): void {
    for (const wake of this.#waiting) wake();
    this.#waiting.clear();
  }
}

/** A directory that goes with the test. */
export function temporaryDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), "handover-"));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** How many descriptors a process has. */
export function descriptorCount(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

/** The field `pgrp` of proc(5)'s stat. */
function groupOf(pid: number): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[2]);
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

/** Reading extra certificates triples the time that Node takes to start. */
function withoutCertificates(): NodeJS.ProcessEnv {
  const { NODE_EXTRA_CA_CERTS: _, ...env } = process.env;
  return env;
}
