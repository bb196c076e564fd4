import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { HandoverError, reasonOf } from "../errors.js";

/**
 * The PID file. It changes hands by rename(2), so that a reader sees one PID or the other, never half of one:
 * {@link prepare} does all that can fail, {@link publish} is one system call.
 */
export class PidFile {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  /**
   * Writes this process's PID beside the file.
   *
   * @throws {HandoverError} `ERR_PID_FILE`
   */
  prepare(): void {
    this.#try(() => writeFileSync(this.#beside(process.pid), `${process.pid}\n`));
  }

  /** Puts what was prepared in the file's place. */
  publish(): void {
    this.#try(() => renameSync(this.#beside(process.pid), this.path));
  }

  /** Takes back what was prepared but not published; by a successor, too, that was killed and could not. */
  discard(pid = process.pid): void {
    try {
      rmSync(this.#beside(pid), { force: true });
    } catch {
      // It is not ours to remove.
    }
  }

  /** Removes the file if it still names this process. */
  remove(): void {
    try {
      if (readFileSync(this.path, "utf8").trim() === String(process.pid)) rmSync(this.path);
    } catch {
      // It is gone, or not ours to read: nothing of this process is left in it.
    }
  }

  #beside(pid: number): string {
    return `${this.path}.${pid}`;
  }

  #try(action: () => void): void {
    try {
      action();
    } catch (cause) {
      throw new HandoverError("ERR_PID_FILE", `cannot write the PID file ${this.path}: ${reasonOf(cause)}`, {
        cause,
      });
    }
  }
}
