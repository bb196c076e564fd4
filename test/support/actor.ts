import { once } from "node:events";
import { connect } from "node:net";
import { join } from "node:path";
import { Service, temporaryDirectory, type Line } from "./service.js";

/** A process of a service whose fixture does what it is told (`commands.js`). */
export class Actor {
  readonly service: Service;
  readonly pid: number;
  readonly generation: number;
  readonly #directory: string;

  /** Generation 0, when it accepts. */
  static async start(fixture: string, settings: object = {}): Promise<Actor> {
    const directory = temporaryDirectory();
    const options = { probation: 100, exitTimeout: 5_000, ...settings, directory };
    const service = Service.start(fixture, { settings: options });
    return new Actor(service, await service.until("accepting"), directory);
  }

  private constructor(service: Service, { pid, generation }: Line, directory: string) {
    this.service = service;
    this.pid = pid;
    this.generation = generation;
    this.#directory = directory;
  }

  /** Calls a command of the fixture's. */
  async tell(command: string, ...args: unknown[]): Promise<unknown> {
    const socket = connect(join(this.#directory, String(this.pid)));
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

  /** The first line of this process with this event and these fields. */
  async says(event: string, fields: Partial<Line> = {}, from = 0): Promise<Line> {
    return this.service.until(event, { ...fields, pid: this.pid }, from);
  }

  /** All lines of this process with this event that there are by now. */
  said(event: string): Line[] {
    return this.service.lines.filter((line) => line.pid === this.pid && line.event === event);
  }

  /** Asks for an upgrade; resolves with the successor when it says `event`. */
  async upgrade(event = "accepting"): Promise<Actor> {
    const { service } = this;
    const from = service.lines.length;
    this.kill("SIGHUP");
    const line = await service.until(event, { generation: this.generation + 1 }, from);
    return new Actor(service, line, this.#directory);
  }

  /** The successor that accepts already. */
  async successor(): Promise<Actor> {
    const line = await this.service.until("accepting", { generation: this.generation + 1 });
    return new Actor(this.service, line, this.#directory);
  }

  /** Asks for an upgrade that is not to succeed, as soon as its own probation is over. */
  async failsToUpgrade(code: string): Promise<Line> {
    for (;;) {
      const from = this.service.lines.length;
      this.kill("SIGHUP");
      const failed = await this.says("failed", {}, from);
      if (failed["code"] !== "ERR_ON_PROBATION") {
        if (failed["code"] !== code)
          throw new Error(`failed with ${JSON.stringify(failed)}, not with ${code}`);
        return failed;
      }
    }
  }

  /** The same, as soon as its own probation is over. */
  async upgradeSoon(event = "accepting"): Promise<Actor> {
    for (;;) {
      const from = this.service.lines.length;
      const refused = this.says("failed", { code: "ERR_ON_PROBATION" }, from).then(() => undefined);
      const next = await Promise.race([this.upgrade(event), refused]);
      if (next !== undefined) return next;
    }
  }

  kill(signal: NodeJS.Signals = "SIGKILL"): void {
    process.kill(this.pid, signal);
  }

  /** Waits until this process has left, because it was upgraded or stopped. */
  async leaves(outcome = "upgraded"): Promise<Line> {
    await this.says("exited", { outcome });
    return this.says("exit");
  }
}
