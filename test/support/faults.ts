import { readdirSync } from "node:fs";
import { Agent, request } from "node:http";
import { connect } from "node:net";
import { fileURLToPath } from "node:url";
import { expect, onTestFinished } from "vitest";
import { descriptorCount, Service, type Line, type StartOptions } from "./service.js";

/** A service whose first generation accepts on a TCP port. */
export interface Running {
  service: Service;
  port: number;
  /** A client with one connection to the first generation, which it keeps. */
  client: Agent;
}

/** Starts one, and waits until it accepts. */
export async function start(
  fixture: string,
  settings: object = {},
  options: StartOptions = {},
): Promise<Running> {
  const service = Service.start(fixture, { settings, ...options });
  const { address } = await service.until("listening");
  await service.until("accepting");
  const running = { service, port: (address as { port: number }).port, client: keepAlive() };
  await ask(running.port, "/", running.client);
  return running;
}

/** The words that start a fixture, for a `command` of the test's own. */
export function words(fixture: string, settings: object = {}): string[] {
  return [process.execPath, fixturePath(fixture), JSON.stringify(settings)];
}

export function fixturePath(fixture: string): string {
  return fileURLToPath(new URL(`../fixtures/${fixture}`, import.meta.url));
}

/** The same words under a shell's `ulimit -n`. */
export function limited(descriptors: number, command: string[]): string[] {
  return ["sh", "-c", `ulimit -n ${descriptors}; exec "$@"`, "sh", ...command];
}

/** What a process has, to be compared after a failure: its descriptors, and the files of a directory. */
export function belongings(pid: number, directory?: string): { descriptors: number; files: string[] } {
  return {
    descriptors: descriptorCount(pid),
    files: directory === undefined ? [] : readdirSync(directory).toSorted(),
  };
}

/**
 * Asks for an upgrade by signal, which must fail and leave everything as it was. The answer comes over the kept
 * connection, as the server's end of a new one would be a descriptor for a moment longer.
 */
export async function failUpgrade(running: Running, directory?: string): Promise<Line> {
  const { service, port, client } = running;
  const before = belongings(service.pid, directory);
  const from = service.lines.length;
  process.kill(service.pid, "SIGHUP");
  const failed = await service.until("failed", { pid: service.pid }, from);
  await service.untilNoise(/handover: upgrade failed: .*\n/);
  expect(belongings(service.pid, directory)).toEqual(before);
  expect(service.alive()).toEqual([service.pid]);
  expect(await ask(port, "/", client)).toBe(String(service.pid));
  return failed;
}

/** Upgrades by signal; the line with which the successor says that it accepts. */
export async function upgrade({ service }: Running, pid = service.pid): Promise<Line> {
  const from = service.lines.length;
  process.kill(pid, "SIGHUP");
  return service.until("accepting", {}, from);
}

/** Sees that `pid` accepts, stops it, and sees that nothing is left. */
export async function stop({ service, port, client }: Running, pid = service.pid): Promise<void> {
  expect(await ask(port)).toBe(String(pid));
  client.destroy();
  process.kill(pid, "SIGTERM");
  await service.ended();
  expect(service.alive()).toEqual([]);
}

/** The answer to one request on a connection of its own: the PID of who answers. */
export function ask(port: number, path = "/", agent: Agent | false = false): Promise<string> {
  return new Promise((resolve, reject) => {
    const asked = request({ port, path, host: "127.0.0.1", agent }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
      response.once("end", () => resolve(text)).once("error", reject);
    });
    asked.once("error", reject).end();
  });
}

/** A client with one connection, which it keeps. */
export function keepAlive(): Agent {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  onTestFinished(() => agent.destroy());
  return agent;
}

/** Clients that connect, ask and hang up without a pause. */
export class Crowd {
  /** Who has answered how often. */
  readonly answers = new Map<number, number>();
  readonly failures: string[] = [];
  readonly #port: number;
  readonly #clients: Promise<void>[];
  #over = false;
  #tell = (): void => {};

  constructor(port: number, size = 8) {
    this.#port = port;
    this.#clients = Array.from({ length: size }, () => this.#work());
    onTestFinished(() => void (this.#over = true));
  }

  /** Resolves when `more` requests have been answered from now on. */
  async answered(more: number): Promise<void> {
    const goal = this.#total + more;
    while (this.#total < goal) await new Promise<void>((resolve) => (this.#tell = resolve));
  }

  async leave(): Promise<void> {
    this.#over = true;
    await Promise.all(this.#clients);
  }

  get #total(): number {
    return this.failures.length + [...this.answers.values()].reduce((sum, count) => sum + count, 0);
  }

  async #work(): Promise<void> {
    while (!this.#over) {
      try {
        const pid = Number(await ask(this.#port));
        this.answers.set(pid, (this.answers.get(pid) ?? 0) + 1);
      } catch (error) {
        this.failures.push(String(error));
      }
      this.#tell();
    }
  }
}

/** Whether somebody accepts on a port; `false` if a connection is refused. */
export function isServed(port: number): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const probe = connect(port, "127.0.0.1");
    probe
      .once("connect", () => resolve(true))
      .once("error", (error: NodeJS.ErrnoException) => {
        if (error.code === "ECONNREFUSED") resolve(false);
        else reject(error);
      });
    probe.once("connect", () => probe.destroy());
  });
}
