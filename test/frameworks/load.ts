import { setTimeout as pause } from "node:timers/promises";
import { onTestFinished } from "vitest";

/** A client that asks one thing again and again, in its own way. */
export interface Asker {
  /** The answer, which names the process that gave it: `from 4711`. Rejects if the client has lost anything. */
  ask(): Promise<string>;
  close(): void;
}

/** What a client is, for the message of a failure, and how it connects to a port. */
export type Askers = Record<string, (port: number) => Asker>;

/** Clients of different kinds that ask without an end. */
export class Load {
  readonly #clients: Client[];
  /** The processes that have answered so far, up to the last time that all clients were answered by one. */
  readonly #known = new Set<number>();
  #tell = (): void => {};

  /** Begins, and resolves when each client was answered by the same process. */
  static async on(port: number, askers: Askers): Promise<Load> {
    const load = new Load(port, askers);
    await load.reachesNextProcess();
    return load;
  }

  private constructor(port: number, askers: Askers) {
    this.#clients = Object.entries(askers).map(
      ([name, connect]) => new Client(name, connect(port), () => this.#tell()),
    );
    onTestFinished(async () => void (await this.leave()));
  }

  /** Resolves when a process that had answered no client before answers all of them. */
  async reachesNextProcess(): Promise<void> {
    for (;;) {
      if (this.#failures.length > 0) throw new Error(this.#failures.join("\n"));
      const [pid, ...others] = new Set(this.#clients.map((client) => client.pid));
      if (pid !== undefined && others.length === 0 && !this.#known.has(pid)) {
        this.#known.add(pid);
        return;
      }
      await new Promise<void>((tell) => (this.#tell = tell));
    }
  }

  /** Each client gets the answer for which it waits, and leaves. What went wrong. */
  async leave(): Promise<string[]> {
    await Promise.all(this.#clients.map(async (client) => client.leave()));
    return this.#failures;
  }

  get #failures(): string[] {
    return this.#clients.flatMap(({ failure }) => failure ?? []);
  }
}

class Client {
  /** Of the process that gave the last answer. */
  pid: number | undefined;
  failure: string | undefined;
  readonly #ended: Promise<void>;
  #leaves = false;

  constructor(name: string, asker: Asker, tell: () => void) {
    this.#ended = this.#run(name, asker, tell);
  }

  async leave(): Promise<void> {
    this.#leaves = true;
    await this.#ended;
  }

  async #run(name: string, asker: Asker, tell: () => void): Promise<void> {
    try {
      while (!this.#leaves) {
        const answer = await asker.ask();
        const [, pid] = /from (\d+)/.exec(answer) ?? [];
        if (pid === undefined) throw new Error(`was answered ${answer}`);
        this.pid = Number(pid);
        tell();
        await pause(PACE);
      }
    } catch (error) {
      this.failure = `${name}: ${String(error)}`;
      tell();
    } finally {
      asker.close();
    }
  }
}

/** ms between an answer and the next question: the machine has other things to do. */
const PACE = 20;
