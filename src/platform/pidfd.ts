import { constants } from "node:os";
import { native, POLL, type Watcher } from "./native.js";

/** A process, held by a descriptor: its pid cannot come to mean another process. */
export class Pidfd {
  readonly #fd: number;
  readonly #watcher: Watcher;
  #isClosed = false;

  /**
   * Does not keep the event loop alive, unless {@link ref} is called.
   *
   * @param onEnd is called once, when the process has ended; this is closed by then
   * @returns -errno if there is no such descriptor: -ESRCH if the process was reaped, -ENOSYS where there are none
   */
  static open(pid: number, onEnd: () => void): Pidfd | number {
    const fd = native().pidfdOpen(pid);
    if (fd < 0) return fd;
    try {
      return new Pidfd(fd, onEnd);
    } catch (error) {
      native().close(fd);
      return (error as NodeJS.ErrnoException).errno!;
    }
  }

  private constructor(fd: number, onEnd: () => void) {
    this.#fd = fd;
    this.#watcher = new (native().Watcher)(fd, () => {
      this.close();
      onEnd();
    });
    this.#watcher.unref();
    this.#watcher.watch(POLL.readable);
  }

  /** Nothing happens if the process has ended. */
  kill(): void {
    if (!this.#isClosed) native().pidfdKill(this.#fd, constants.signals.SIGKILL);
  }

  ref(): void {
    this.#watcher.ref();
  }

  unref(): void {
    this.#watcher.unref();
  }

  /** Lets go of the process. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#watcher.close();
    native().close(this.#fd);
  }
}

/** For a process that no pidfd holds. */
export function killByPid(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It has exited, and was reaped.
  }
}
