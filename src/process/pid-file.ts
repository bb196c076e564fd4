import {
  closeSync,
  constants,
  lstatSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { HandoverError, reasonOf } from "../errors.js";
import { builtins } from "../platform/builtins.js";
import { systemError } from "../platform/native.js";

/**
 * The PID file. It is replaced by rename(2), so that a reader sees one PID or the other, never half of one:
 * {@link prepare} does everything that may fail, {@link publish} is one system call, which a full disk does not stop.
 */
export class PidFile {
  readonly path: string;
  readonly #pid: number;
  /** The file that was prepared, and not published yet. */
  #prepared: string | undefined;

  /** @param pid of this process */
  constructor(path: string, pid: number) {
    this.path = path;
    this.#pid = pid;
  }

  /**
   * Writes this process's PID beside the file. The name is random: other users, where they may write in the directory,
   * cannot place a link there that is written through, or a file that is in the way.
   *
   * @throws {HandoverError} `ERR_PID_FILE`
   */
  prepare(): void {
    this.discard();
    try {
      this.#assertReplaceable();
      const file = `${this.path}.${this.#pid}.${randomBytes(NAME_BYTES).toString("hex")}`;
      const fd = openSync(file, CREATE, 0o666);
      this.#prepared = file;
      try {
        writeFileSync(fd, `${this.#pid}\n`);
      } finally {
        closeSync(fd);
      }
    } catch (cause) {
      this.discard();
      throw this.#error(cause);
    }
  }

  /**
   * Puts the prepared file in place.
   *
   * @throws {HandoverError} `ERR_PID_FILE`
   */
  publish(): void {
    if (this.#prepared === undefined) return;
    try {
      renameSync(this.#prepared, this.path);
      this.#prepared = undefined;
    } catch (cause) {
      this.discard();
      throw this.#error(cause);
    }
  }

  /** Removes a prepared file that was not published. */
  discard(): void {
    if (this.#prepared !== undefined) removeQuietly(this.#prepared);
    this.#prepared = undefined;
  }

  /** Removes what a process that was killed had prepared. */
  discardOf(pid: number): void {
    const start = `${basename(this.path)}.${pid}.`;
    const isPrepared = (name: string): boolean =>
      name.startsWith(start) && RANDOM.test(name.slice(start.length));
    try {
      for (const name of readdirSync(dirname(this.path)).filter(isPrepared)) {
        removeQuietly(join(dirname(this.path), name));
      }
    } catch {
      // Its directory cannot be read, or is gone.
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

  /** After the commit it would be too late to find out that rename(2) fails. */
  #assertReplaceable(): void {
    const file = lstatSync(this.path, { throwIfNoEntry: false });
    if (file === undefined) return;
    if (file.isDirectory()) throw systemError(-builtins.os.constants.errno.EISDIR, "replace", this.path);
    const directory = statSync(dirname(this.path));
    const user = process.geteuid?.() ?? 0;
    if ((directory.mode & STICKY) !== 0 && ![0, file.uid, directory.uid].includes(user)) {
      throw systemError(-builtins.os.constants.errno.EPERM, "replace", this.path);
    }
  }

  #error(cause: unknown): HandoverError {
    const message = `cannot write the PID file ${this.path}: ${reasonOf(cause)}`;
    return new HandoverError("ERR_PID_FILE", message, { cause });
  }
}

const CREATE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;

const NAME_BYTES = 8;

/** As that of `node:crypto`, which is a megabyte that a supervisor needs for nothing else. */
function randomBytes(size: number): Buffer {
  const fd = openSync("/dev/urandom", "r");
  try {
    const bytes = Buffer.alloc(size);
    readSync(fd, bytes);
    return bytes;
  } finally {
    closeSync(fd);
  }
}

/** The end of the name of a prepared file. */
const RANDOM = /^[0-9a-f]{16}$/;

/** S_ISVTX: only its owner, the directory's owner and root may replace a file. */
const STICKY = 0o1000;

function removeQuietly(file: string): void {
  try {
    rmSync(file, { force: true });
  } catch {
    // Its directory was made unwritable, and the file does no harm.
  }
}
