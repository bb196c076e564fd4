import { constants } from "node:os";
import { native, POLL, type Watcher } from "../platform/native.js";
import { deferred } from "../util/deferred.js";

/**
 * The process at the other end of a channel, named by the kernel and not by a message. It is held by a pidfd where there are
 * such, so that its PID cannot come to mean another process.
 */
export class PeerProcess {
  readonly pid: number;
  /** Resolves when the process has exited; pending where there is no pidfd. */
  readonly exited: Promise<void>;
  readonly #pidfd: number;
  readonly #exited = deferred<void>();
  #watcher: Watcher | undefined;
  #hasExited = false;

  /** @param pid of a process that is alive, in this PID namespace */
  constructor(pid: number) {
    this.pid = pid;
    this.exited = this.#exited.promise;
    this.#pidfd = native().pidfdOpen(pid);
    if (this.#pidfd === -constants.errno.ESRCH) this.#onExit();
    if (this.#pidfd < 0) return;
    this.#watcher = new (native().Watcher)(this.#pidfd, () => this.#onExit());
    this.#watcher.watch(POLL.readable);
    this.#watcher.unref();
  }

  /** True where there is no pidfd: there the end of the channel is the only sign. */
  get hasExited(): boolean {
    return this.#hasExited || this.#pidfd < 0;
  }

  kill(): void {
    if (this.#watcher !== undefined) native().pidfdKill(this.#pidfd, constants.signals.SIGKILL);
    else if (this.#pidfd === -constants.errno.ENOSYS) killByPid(this.pid);
  }

  /** Lets go of the process. */
  close(): void {
    if (this.#watcher === undefined) return;
    this.#watcher.close();
    this.#watcher = undefined;
    native().close(this.#pidfd);
  }

  #onExit(): void {
    this.close();
    this.#hasExited = true;
    this.#exited.resolve();
  }
}

function killByPid(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It has exited.
  }
}
