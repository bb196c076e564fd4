import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** What a control group can limit, with its directory and file: of version 2, then of version 1. */
const CONTROLLERS = {
  memory: [
    ["/sys/fs/cgroup", "memory.max"],
    ["/sys/fs/cgroup/memory", "memory.limit_in_bytes"],
  ],
  pids: [
    ["/sys/fs/cgroup", "pids.max"],
    ["/sys/fs/cgroup/pids", "pids.max"],
  ],
} as const;

/** A control group of this machine's with a limit, where one may be made. */
export class ControlGroup {
  readonly #directory: string | undefined;
  readonly #limit: string;

  /** @param what it limits: bytes of memory, or processes and threads */
  static open(what: keyof typeof CONTROLLERS): ControlGroup {
    const name = `handover-${process.pid}`;
    for (const [root, limit] of CONTROLLERS[what]) {
      const directory = join(root, name);
      try {
        mkdirSync(directory);
        // The file system makes the files: there are none on an ordinary one, or without the controller.
        if (existsSync(join(directory, limit))) return new ControlGroup(directory, limit);
        rmdirSync(directory);
      } catch {
        // Not there, not root's, or read-only.
      }
    }
    return new ControlGroup(undefined, "");
  }

  private constructor(directory: string | undefined, limit: string) {
    this.#directory = directory;
    this.#limit = limit;
  }

  /** Whether tests of it are skipped: there is none, and in CI that is no excuse. */
  get isSkipped(): boolean {
    return this.#directory === undefined && process.env["CI"] === undefined;
  }

  /** For the title of a test. */
  get why(): string {
    return this.isSkipped ? " (skipped: no control group can be made here)" : "";
  }

  put(pid: number, limit: number): void {
    this.limit(limit);
    writeFileSync(join(this.#directory!, "cgroup.procs"), String(pid));
  }

  limit(limit: number | "max"): void {
    if (this.#directory === undefined) throw new Error("no control group can be made here");
    writeFileSync(join(this.#directory, this.#limit), String(limit));
  }

  /** Its processes have to have ended. */
  remove(): void {
    if (this.#directory === undefined) return;
    const left = readFileSync(join(this.#directory, "cgroup.procs"), "utf8");
    if (left === "") rmdirSync(this.#directory);
  }
}
