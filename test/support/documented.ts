import { execFile } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { vi } from "vitest";
import { Service, temporaryDirectory } from "./service.js";

const run = promisify(execFile);

/** A documented program that runs as a service. */
export class DocumentedProgram {
  readonly port: number;
  readonly pid: number;
  readonly #service: Service;
  readonly #directory: string;
  readonly #pidFile: string;

  /**
   * Starts it as printed, but with a PID file and a port of its own, and a line that says when it accepts.
   *
   * @param words of `handover` that run it under a supervisor
   * @param env additions to the environment
   */
  static async start(
    text: string,
    words?: readonly string[],
    env: NodeJS.ProcessEnv = {},
  ): Promise<DocumentedProgram> {
    const directory = project();
    const pidFile = join(directory, "app.pid");
    const program = text
      .replace(/pidFile: "\w+\.pid"/, `pidFile: ${JSON.stringify(pidFile)}`)
      .replace(/port: \d+/, "port: 0")
      .replace(
        "await upg.exit;",
        `console.log(JSON.stringify({ event: "accepting", pid: process.pid }));\n$&`,
      );
    writeFileSync(join(directory, "server.js"), program);
    const supervised = words === undefined ? [] : [commandOf(directory), ...words, "--pid-file", pidFile];
    const command = [process.execPath, ...supervised, "server.js"];
    const service = Service.start("", { command, cwd: directory, env });
    await service.until("accepting");
    // A supervisor writes it when all workers accept.
    await vi.waitUntil(() => existsSync(pidFile), { timeout: 110_000 });
    const status = JSON.parse(await handover(directory, "status", "--pid-file", pidFile, "--json")) as {
      listeners: { address: string }[];
    };
    const port = status.listeners.map(({ address }) => /:(\d+)$/.exec(address)?.[1]).find(Boolean);
    return new DocumentedProgram(service, directory, pidFile, Number(port));
  }

  private constructor(service: Service, directory: string, pidFile: string, port: number) {
    this.#service = service;
    this.#directory = directory;
    this.#pidFile = pidFile;
    this.port = port;
    this.pid = service.pid;
  }

  /** Upgrades it with the command; the PID of its successor. */
  async upgrade(): Promise<number> {
    const before = readFileSync(this.#pidFile, "utf8");
    await handover(this.#directory, "upgrade", "--pid-file", this.#pidFile);
    const after = readFileSync(this.#pidFile, "utf8");
    if (after === before) throw new Error(`the PID file still says ${before}`);
    return Number(after);
  }

  /** Stops it with a signal; everything that it has printed. */
  async stop(): Promise<string> {
    process.kill(Number(readFileSync(this.#pidFile, "utf8")), "SIGTERM");
    await this.#service.ended();
    return this.#service.noise;
  }
}

/** Runs a documented module to its end; everything that it prints. */
export async function runModule(text: string): Promise<string> {
  const directory = project({ "program.js": text });
  const { stdout, stderr } = await run(process.execPath, ["program.js"], { cwd: directory });
  return stdout + stderr;
}

/** A project of ES modules in which handover, ws and socket.io are installed; its directory. */
export function project(files: Record<string, string> = {}): string {
  const directory = temporaryDirectory();
  mkdirSync(join(directory, "node_modules"));
  symlinkSync(resolve("."), join(directory, "node_modules", "handover"));
  for (const name of ["ws", "pg", "socket.io"]) {
    symlinkSync(resolve("node_modules", name), join(directory, "node_modules", name));
  }
  writeFileSync(join(directory, "package.json"), '{ "type": "module" }');
  for (const [name, text] of Object.entries(files)) writeFileSync(join(directory, name), text);
  return directory;
}

async function handover(directory: string, ...args: string[]): Promise<string> {
  const { stdout } = await run(process.execPath, [commandOf(directory), ...args]);
  return stdout;
}

function commandOf(directory: string): string {
  return join(directory, "node_modules", "handover", "bin", "handover.js");
}
