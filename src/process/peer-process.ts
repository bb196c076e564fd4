import { constants } from "node:os";
import { killByPid, Pidfd } from "../platform/pidfd.js";
import { deferred } from "../util/deferred.js";

/**
 * The process at the other end of a channel, named by the kernel and not by a message. It is held by a pidfd where there are
 * such, so that its PID cannot come to mean another process.
 */
export class PeerProcess {
  readonly pid: number;
  /** Resolves when the process has exited; pending where there is no pidfd. */
  readonly exited: Promise<void>;
  readonly #pidfd: Pidfd | number;
  readonly #exited = deferred<void>();
  #hasExited = false;

  /** @param pid of a process that is alive, in this PID namespace */
  constructor(pid: number) {
    this.pid = pid;
    this.exited = this.#exited.promise;
    this.#pidfd = Pidfd.open(pid, () => this.#onExit());
    if (this.#pidfd === REAPED) this.#onExit();
  }

  /** True where there is no pidfd: there the end of the channel is the only sign. */
  get hasExited(): boolean {
    return this.#hasExited || typeof this.#pidfd === "number";
  }

  kill(): void {
    if (typeof this.#pidfd !== "number") this.#pidfd.kill();
    else if (this.#pidfd !== REAPED) killByPid(this.pid);
  }

  /** Lets go of the process. */
  close(): void {
    if (typeof this.#pidfd !== "number") this.#pidfd.close();
  }

  #onExit(): void {
    this.#hasExited = true;
    this.#exited.resolve();
  }
}

const REAPED = -constants.errno.ESRCH;
