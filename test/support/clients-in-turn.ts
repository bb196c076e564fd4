import { onTestFinished } from "vitest";
import { ask } from "./service.js";

/** Eight clients that ask again and again, each time on a connection of its own. */
export class Load {
  readonly #failures: string[] = [];
  readonly #ended: Promise<unknown>;
  #count = 0;
  #wake: () => void = () => {};
  #leaves = false;

  constructor(port: number) {
    this.#ended = Promise.all(Array.from({ length: 8 }, async () => this.#run(port)));
    onTestFinished(async () => void (await this.leave()));
  }

  /** Waits for so many answers more. */
  async answered(more: number): Promise<void> {
    const wanted = this.#count + more;
    while (this.#count < wanted) await new Promise<void>((wake) => (this.#wake = wake));
  }

  /** The failures. */
  async leave(): Promise<string[]> {
    this.#leaves = true;
    await this.#ended;
    return this.#failures;
  }

  async #run(port: number): Promise<void> {
    while (!this.#leaves) {
      const failed = (error: NodeJS.ErrnoException): void => void this.#failures.push(error.code!);
      await ask(port).then(() => this.#count++, failed);
      this.#wake();
    }
  }
}
