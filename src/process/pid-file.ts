import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { HandoverError, reasonOf } from "../errors.js";

/**
 * The PID file. It is replaced by rename(2), so that a reader sees one PID or the other, never half of one:
 * {@link prepare} does everything that may fail, {@link publish} is one system call.
 */
export class PidFile {
  readonly path: string;
  readonly #pid: number;

  /** @param pid of this process */
  constructor(path: string, pid: number) {
    this.path = path;
    this.#pid = pid;
  }

  /**
   * Writes this process's PID beside the file.
   *
   * @throws {HandoverError} `ERR_PID_FILE`
   */
  prepare(): void {
    this.#try(() => writeFileSync(this.#beside(this.#pid), `${this.#pid}\n`));
  }

  /**
   * Puts the prepared file in place.
   *
   * @throws {HandoverError} `ERR_PID_FILE`
   */
  publish(): void {
    this.#try(() => renameSync(this.#beside(this.#pid), this.path));
  }

  /** Removes a prepared file that was not published. A successor that was killed could not do so itself: give its `pid`. */
  discard(pid = this.#pid): void {
    try {
      rmSync(this.#beside(pid), { force: true });
    } catch {
      // Its directory was made unwritable, and the file does no harm.
    }
  }

  /** Removes the file if it still names this process. */
  remove(): void {
    try {
      if (readFileSync(this.path, "utf8").trim() === String(this.#pid)) rmSync(this.path);
    } catch {
      // The file is gone, or cannot be read: it does not name this process.
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
