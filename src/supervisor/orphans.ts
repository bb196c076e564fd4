import type { ChildProcess } from "node:child_process";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { findOwnChild } from "../platform/child-process.js";
import { native } from "../platform/native.js";

/**
 * Reaps the orphans that become children of this process, as PID 1 or as a subreaper. Without it each would stay in the
 * process table until this process exits. The children that this process has started keep their exit status for those who
 * wait for it: those of `startProgram()` and `adoptChild()`, and those of `child_process`.
 */
export class OrphanReaper {
  readonly #look = (): void => this.#reapAll();
  readonly #onStart = (message: unknown): void => this.#watch((message as { process: ChildProcess }).process);
  /** The pids of what `child_process` has started: libuv reaps them. */
  readonly #childrenOfNode = new Set<number>();

  /**
   * Reaps from now on, and at once what has exited before. To be called before `child_process` starts anything and after
   * every child of a former program was adopted: what is unknown is an orphan. So worker threads may start no process.
   */
  static start(): OrphanReaper {
    return new OrphanReaper();
  }

  private constructor() {
    subscribe(CHANNEL, this.#onStart);
    process.on("SIGCHLD", this.#look);
    this.#look();
  }

  stop(): void {
    process.off("SIGCHLD", this.#look);
    unsubscribe(CHANNEL, this.#onStart);
  }

  #watch(child: ChildProcess): void {
    let pid: number;
    child.once("spawn", () => this.#childrenOfNode.add((pid = child.pid!)));
    child.once("exit", () => {
      this.#childrenOfNode.delete(pid);
      // It hides the others, if libuv reads its SIGCHLD only after this look.
      this.#look();
    });
  }

  /** The kernel shows one of the children that have exited, and another only when that is reaped. */
  #reapAll(): void {
    for (let pid = native().peekExited(); pid > 0; pid = native().peekExited()) {
      if (this.#childrenOfNode.has(pid)) return;
      const own = findOwnChild(pid);
      if (own === undefined) native().reap(pid);
      else own.requestStatus();
    }
  }
}

/** On which Node tells of each child before it starts it. */
const CHANNEL = "child_process";
