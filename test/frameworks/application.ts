import { execFile } from "node:child_process";
import { resolve } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { isServed } from "../support/faults.js";
import { freePort } from "../support/port.js";
import { Service, temporaryDirectory } from "../support/service.js";
import { httpClients } from "./http-clients.js";
import { Load, type Askers } from "./load.js";

const run = promisify(execFile);

/** A program of `apps/`. */
interface Program {
  /** Below `apps/`; the working directory. */
  directory: string;
  /** The words after `node`. */
  args: readonly string[];
  env?: NodeJS.ProcessEnv;
  /** What it may print on stderr. */
  prints?: RegExp;
}

/** A program whose clients notice no upgrade. */
interface Row extends Program {
  /** Those of HTTP by default. */
  clients?: Askers;
  /** False where this Node cannot run it. */
  needs?: boolean;
  /** The exit code that it chooses for a stop; 0 by default. */
  exits?: number;
}

/** The option of Node that upgrades a program without a line of code. */
export const AUTO = ["--import", "handover/auto"] as const;

/** For an unchanged program whose WebSockets may move: its server knows of a client what is in its request. */
export const MOVES_WEB_SOCKETS = { HANDOVER_WEBSOCKETS: "move" } as const;

/** Where time is short, one in place of three. */
export const UPGRADES = process.env["HANDOVER_FRAMEWORKS"] === "short" ? 1 : 3;

/** Adds the test that all rows share: upgrades under load, of which no client notices anything. */
export function testUpgrades(title: string, row: Row): void {
  const { clients = httpClients(), needs = true, exits = 0, ...program } = row;
  test.skipIf(!needs)(`${title}: no client notices an upgrade`, async () => {
    const port = await freePort();
    const application = new Application(program, port);
    await expect.poll(async () => isServed(port)).toBe(true);
    const load = await Load.on(port, clients);
    for (let n = 0; n < UPGRADES; n++) {
      await application.command("upgrade");
      await load.reachesNextProcess();
    }
    expect(await load.leave()).toEqual([]);
    expect(await application.stop()).toEqual({ ...QUIET_END, exit: [exits, null] });
  });
}

export class Application {
  readonly #service: Service;
  readonly #prints: RegExp;
  readonly #env: NodeJS.ProcessEnv;
  /** Of the process that accepts, or of the supervisor. */
  #pid: number;

  constructor({ directory, args, env = {}, prints = /$^/g }: Program, port = 0) {
    this.#env = { XDG_RUNTIME_DIR: temporaryDirectory(), PORT: String(port), ...env };
    this.#prints = prints;
    this.#service = Service.start("", {
      command: [process.execPath, ...args],
      cwd: resolve("test/frameworks/apps", directory),
      env: this.#env,
    });
    this.#pid = this.#service.pid;
  }

  /** Runs a command of handover as the same user. */
  async command(name: "upgrade" | "stop"): Promise<void> {
    const words = [resolve("bin/handover.js"), name, String(this.#pid), "--json"];
    const { stdout } = await run(process.execPath, words, { env: { ...process.env, ...this.#env } });
    const { pid } = JSON.parse(stdout.trim().split("\n").at(-1)!) as { pid?: number };
    this.#pid = pid ?? this.#pid;
  }

  /** Resolves when every process has ended: how the first one did, and the warnings that they have printed. */
  async stop(): Promise<{ exit: unknown; warnings: string[] }> {
    await this.command("stop");
    await this.#service.ended();
    const lines = this.#service.noise.replaceAll(this.#prints, "").split("\n");
    const warnings = lines.filter((line) => /warning|error/i.test(line));
    return { exit: await this.#service.exited, warnings };
  }
}

/** What {@link Application.stop} returns of one with which all is well. */
export const QUIET_END = { exit: [0, null], warnings: [] };
