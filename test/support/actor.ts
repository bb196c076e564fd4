import { once } from "node:events";
import { connect } from "node:net";
import { join } from "node:path";
import { Service, temporaryDirectory, type Line } from "./service.js";

/** A process of a service whose fixture obeys commands (`obey.js`). */
export class Actor {
  readonly service: Service;
  readonly pid: number;
  readonly generation: number;
  readonly #directory: string;

  /** Generation 0, when it accepts. */
  static async start(fixture: string, settings: object = {}, env: NodeJS.ProcessEnv = {}): Promise<Actor> {
    const directory = temporaryDirectory();
    const options = { probation: 100, exitTimeout: 5_000, ...settings, directory };
    const service = Service.start(fixture, { settings: options, env });
    return new Actor(service, await service.until("accepting"), directory);
  }

  private constructor(service: Service, { pid, generation }: Line, directory: string) {
    this.service = service;
    this.pid = pid;
    this.generation = generation;
    this.#directory = directory;
  }

  /** Runs one of the fixture's commands in this process; resolves with its value, or rejects with its error. */
  async tell(command: string, ...args: unknown[]): Promise<unknown> {
    return obeys(this.#directory, this.pid, command, ...args);
  }

  /** Waits for the first line of this process with this event and these fields. */
  async says(event: string, fields: Partial<Line> = {}, from = 0): Promise<Line> {
    return this.service.until(event, { ...fields, pid: this.pid }, from);
  }

  /** The lines of this process with this event so far. */
  said(event: string): Line[] {
    return this.service.lines.filter((line) => line.pid === this.pid && line.event === event);
  }

  /** Asks for an upgrade; resolves with the successor when it says `event`. */
  async upgrade(event = "accepting"): Promise<Actor> {
    const line = await this.service.upgrade(event, { generation: this.generation + 1 });
    return new Actor(this.service, line, this.#directory);
  }

  /** Stages a successor; resolves with it. The fixture has the command `stage`. */
  async stage(how: { ttl?: number } = {}): Promise<Actor> {
    const { pid, generation } = (await this.tell("stage", how)) as { pid: number; generation: number };
    return new Actor(this.service, { pid, generation, event: "staged" }, this.#directory);
  }

  /** Asks for an upgrade; resolves with the refusal or the failure. */
  async failsToUpgrade(): Promise<Line> {
    return this.service.upgrade("failed", { pid: this.pid });
  }

  /** The successor, once it accepts. */
  async successor(): Promise<Actor> {
    const line = await this.service.until("accepting", { generation: this.generation + 1 });
    return new Actor(this.service, line, this.#directory);
  }

  /** Waits until its own probation is over, so that it can upgrade. Generation 0 is on none. */
  async confirmed(): Promise<this> {
    if (this.generation > 0) await this.service.confirmed(this.generation);
    return this;
  }

  kill(signal: NodeJS.Signals = "SIGKILL"): void {
    process.kill(this.pid, signal);
  }

  /** Waits until this process exits, because it was upgraded or stopped. */
  async leaves(outcome = "upgraded"): Promise<Line> {
    await this.says("exited", { outcome });
    return this.says("exit");
  }
}

/** Runs a command in a process whose fixture obeys; resolves with its value, or rejects with its error. */
export async function obeys(
  directory: string,
  pid: number,
  command: string,
  ...args: unknown[]
): Promise<unknown> {
  const socket = connect(join(directory, String(pid)));
  let text = "";
  socket.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
  const ended = once(socket, "end");
  socket.write(`${JSON.stringify([command, ...args])}\n`);
  await ended;
  socket.destroy();
  const { value, error } = JSON.parse(text) as { value?: unknown; error?: { message: string } };
  if (error !== undefined) throw Object.assign(new Error(error.message), error);
  return value;
}
