import { setTimeout as pause } from "node:timers/promises";
import { onTestFinished } from "vitest";

/**
 * Clients that ask again and again, each time on a connection of its own, until they leave. They rest for some milliseconds in
 * between, and so leave the processors to the processes that a test starts meanwhile.
 */
export class Crowd {
  /** The number of answers, by the PID that gave them. */
  readonly answers = new Map<number, number>();
  readonly failures: string[] = [];
  /** All answers and failures, in their order. */
  readonly log: string[] = [];
  readonly #service: Asked;
  readonly #clients: Promise<void>[];
  #leaves = false;
  #wake = (): void => {};

  constructor(service: Asked, size = 8) {
    this.#service = service;
    this.#clients = Array.from({ length: size }, () => this.#work());
    onTestFinished(() => void (this.#leaves = true));
  }

  /** Resolves when `more` requests have been answered from now on. */
  async answered(more: number): Promise<void> {
    const goal = this.#total + more;
    while (this.#total < goal) await new Promise<void>((wake) => (this.#wake = wake));
  }

  /** Each client gets the answer for which it waits, and leaves. */
  async leave(): Promise<void> {
    this.#leaves = true;
    await Promise.all(this.#clients);
  }

  get #total(): number {
    return this.log.length - this.failures.length;
  }

  async #work(): Promise<void> {
    await this.#service.until?.("accepting");
    while (!this.#leaves) {
      try {
        const answer = await this.#service.ask();
        const pid = Number(answer);
        this.answers.set(pid, (this.answers.get(pid) ?? 0) + 1);
        this.log.push(answer);
      } catch (error) {
        this.failures.push(String(error));
        this.log.push(String(error));
      }
      this.#wake();
      await pause(Math.random() * 10);
    }
  }
}

interface Asked {
  /** The PID of the process that answers. */
  ask(): Promise<string>;
  /** A service whose port is known when it has told of this event. */
  until?(event: "accepting"): Promise<unknown>;
}
