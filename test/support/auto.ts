import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { vi } from "vitest";
import { autoOption } from "../../dist/supervisor/auto-option.js";
import { freePort } from "./port.js";
import { jsonLines, startHandover, type Run } from "./program.js";
import { Service, temporaryDirectory } from "./service.js";

/** How a program that does not know of handover is started. */
interface AutoOptions {
  settings?: object;
  env?: NodeJS.ProcessEnv;
  /** In place of the option on the command line. */
  nodeArgs?: string[];
  /** For `listens-by-plan.mjs`: what generation 0 does. */
  plan?: readonly (readonly unknown[])[];
}

/** A program of `fixtures/auto/` under `handover/auto`, which a user upgrades by the command. */
export class Auto {
  readonly service: Service;
  readonly port: number;
  /** Of the process that accepts. */
  pid: number;
  /** The runtime directory of its user. */
  readonly directory: string;
  readonly #plan: string;

  static async start(fixture: string, options: AutoOptions = {}): Promise<Auto> {
    return new Auto(fixture, await freePort(), options);
  }

  private constructor(fixture: string, port: number, options: AutoOptions) {
    this.port = port;
    this.directory = temporaryDirectory();
    this.#plan = join(this.directory, "plan");
    if (options.plan !== undefined) this.plan(...options.plan);
    this.service = Service.start(`auto/${fixture}`, {
      settings: { port, plan: this.#plan, ...options.settings },
      nodeArgs: options.nodeArgs ?? [autoOption()],
      env: { XDG_RUNTIME_DIR: this.directory, HANDOVER_PROBATION: "50", ...options.env },
    });
    this.pid = this.service.pid;
  }

  /** What the processes that start from now on do. */
  plan(...steps: readonly (readonly unknown[])[]): void {
    const own = steps.map((step) => step.map((word) => (word === PORT ? this.port : word)));
    writeFileSync(this.#plan, JSON.stringify(own));
  }

  /** Runs a command of handover as the same user. */
  async run(...words: string[]): Promise<Run> {
    return startHandover(words, { XDG_RUNTIME_DIR: this.directory }).ended;
  }

  /** Upgrades it, when it is ready; the PID of the successor. */
  async upgrade(): Promise<number> {
    await vi.waitUntil(async () => (await this.list()).some(({ pid }) => pid === this.pid), {
      timeout: 110_000,
    });
    const run = await this.run("upgrade", String(this.pid), "--json");
    if (run.code !== 0) throw new Error(run.stderr);
    this.pid = Number(jsonLines(run).at(-1)!["pid"]);
    return this.pid;
  }

  /** What `handover list` shows of its processes. */
  async list(): Promise<Record<string, unknown>[]> {
    const [list] = jsonLines(await this.run("list", "--json"));
    const services = list!["services"] as Record<string, unknown>[];
    const own = new Set(this.service.alive());
    return services.filter(({ pid }) => own.has(pid as number));
  }
}

/** In a plan: the port of the service. */
export const PORT = "its port";
