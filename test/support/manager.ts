import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { onTestFinished } from "vitest";

/** One datagram: the assignments by name, and who has sent it. */
export interface Told {
  pid: number;
  message: Record<string, string>;
  inodes: number[];
}

const PROGRAM = fileURLToPath(new URL("manager.py", import.meta.url));

/** Stands for systemd's notification socket, and keeps what it is told. It goes with the test. */
export class Manager {
  readonly told: Told[] = [];
  readonly #waiting = new Set<() => void>();
  readonly #bound: Promise<void>;
  #isOver = false;

  /** @param address a path, or a name in the abstract namespace after an `@` */
  static async listen(address: string): Promise<Manager> {
    const manager = new Manager(address);
    await manager.#bound;
    return manager;
  }

  private constructor(address: string) {
    const child = spawn("/usr/bin/env", ["python3", PROGRAM, address], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    onTestFinished(() => void child.kill("SIGKILL"));
    child.once("exit", () => {
      this.#isOver = true;
      this.#wake();
    });
    let rest = "";
    this.#bound = new Promise((resolve, reject) => {
      child.once("exit", () => reject(new Error("the notification socket was not bound")));
      child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
        const lines = (rest + chunk).split("\n");
        rest = lines.pop()!;
        for (const line of lines.map((one) => JSON.parse(one) as Told & { text: string; bound?: string })) {
          if (line.bound !== undefined) resolve();
          else this.told.push({ pid: line.pid, message: parse(line.text), inodes: line.inodes });
        }
        this.#wake();
      });
    });
  }

  /** The first datagram, from `from` on, that says this; waits for it. */
  async until(message: Record<string, string>, from = 0): Promise<Told> {
    for (;;) {
      const found = this.told.slice(from).find((one) => says(one, message));
      if (found !== undefined) return found;
      if (this.#isOver)
        throw new Error(`never told ${JSON.stringify(message)}\n${JSON.stringify(this.told)}`);
      await new Promise<void>((resolve) => this.#waiting.add(resolve));
    }
  }

  /** What was told of these assignments, and by whom, in order: `READY=1`, with the PID after an @. */
  said(...names: string[]): string[] {
    return this.told.flatMap(({ pid, message }) =>
      names.filter((name) => name in message).map((name) => `${name}=${message[name]}@${pid}`),
    );
  }

  #wake(): void {
    for (const wake of this.#waiting) wake();
    this.#waiting.clear();
  }
}

function says({ message }: Told, wanted: Record<string, string>): boolean {
  return Object.entries(wanted).every(([name, value]) => message[name] === value);
}

function parse(text: string): Record<string, string> {
  return Object.fromEntries(
    text.split("\n").map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)]),
  );
}
