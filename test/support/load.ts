import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { onTestFinished } from "vitest";
import type { Systemd } from "./systemd.js";

/** What all clients have seen: answers by the PID that gave them, failures by their code. */
export interface Count {
  answers: number;
  pids: Record<string, number>;
  failures: Record<string, number>;
}

/** Clients in a systemd's network that ask without a pause. */
export class Load {
  readonly #process: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  /** Begins, and resolves when there were answers. */
  static async on(systemd: Systemd, port: number, clients = 8): Promise<Load> {
    const load = new Load(systemd, port, clients);
    await load.answered(clients);
    return load;
  }

  private constructor(systemd: Systemd, port: number, clients: number) {
    const words = [process.execPath, "/srv/handover/test/support/clients.js", String(port), String(clients)];
    this.#process = spawn("nsenter", [...systemd.entry(), ...words], { stdio: ["pipe", "pipe", "inherit"] });
    this.#lines = createInterface({ input: this.#process.stdout! })[Symbol.asyncIterator]();
    onTestFinished(() => void this.#process.kill("SIGKILL"));
  }

  /** Resolves when `more` answers have come from now on. */
  async answered(more: number): Promise<void> {
    this.#process.stdin!.write(`${more}\n`);
    await this.#next();
  }

  async stop(): Promise<Count> {
    const closed = once(this.#process, "close");
    this.#process.stdin!.end();
    const count = (await this.#next()) as unknown as Count;
    await closed;
    return count;
  }

  async #next(): Promise<Record<string, unknown>> {
    const { value } = await this.#lines.next();
    return JSON.parse(value as string) as Record<string, unknown>;
  }
}
