import { join } from "node:path";
import { expect } from "vitest";
import { ControlClient } from "../../dist/control/client.js";
import type { Answer, Phase, Status, WorkerStatus } from "../../dist/control/protocol.js";
import type { SupervisorOptions } from "../../dist/supervisor/index.js";
import { deferred } from "../../dist/util/deferred.js";
import { obeys } from "./actor.js";
import { fixturePath } from "./faults.js";
import { Service, temporaryDirectory, type Line } from "./service.js";

/** How a supervised service is started. */
export interface SupervisedOptions extends Partial<SupervisorOptions> {
  /** Options of the program's Upgrader, and settings of its own. */
  settings?: object;
  /** Of the supervisor, and so of its workers. */
  environment?: NodeJS.ProcessEnv;
  /** Words before those that start the supervisor. */
  before?: string[];
}

/** An upgrade that was asked for. */
export interface UpgradeUnderWay {
  /** Resolves when the new workers are confirmed. Rejects with the failure. */
  answer: Promise<Extract<Answer, { answer: "upgraded" }>>;
  /** Resolves when the new workers accept. Rejects with the failure. */
  committed: Promise<void>;
}

/**
 * A supervisor and its workers, all of them real processes. Each line that a worker prints has its index as `worker`. The
 * times are short: they only end what hangs, or is over.
 */
export class Supervised {
  readonly service: Service;
  readonly controlSocket: string;
  /** For the sockets of fixtures that obey commands. */
  readonly directory: string;
  readonly count: number;
  #hasExited = false;

  /** Starts it, and waits until every worker accepts. */
  static async start(fixture: string, options: SupervisedOptions = {}): Promise<Supervised> {
    const supervised = Supervised.begin(fixture, options);
    const { workers } = await supervised.settled();
    // The supervisor knows it before the worker's line has been read, from which a test takes the port.
    for (const { state, pid } of workers!) {
      if (state === "ready") await supervised.until("accepting", { pid: pid! });
    }
    return supervised;
  }

  /** Starts it, and waits for nothing. */
  static begin(fixture: string, options: SupervisedOptions = {}): Supervised {
    return new Supervised(fixture, options);
  }

  private constructor(fixture: string, options: SupervisedOptions) {
    const { settings, environment = {}, before = [], ...own } = options;
    this.directory = temporaryDirectory();
    this.controlSocket = join(this.directory, "control");
    this.count = typeof own.workers === "number" ? own.workers : 2;
    const obeysCommands = fixture.startsWith("obeys-") || fixture === "on-several-hosts.js";
    const argument = {
      program: fixture,
      settings: { exitTimeout: 5_000, ...(obeysCommands ? { directory: this.directory } : {}), ...settings },
      workers: this.count,
      probation: 100,
      controlSocket: this.controlSocket,
      ...own,
    };
    const words = [process.execPath, fixturePath("supervisor/supervises.js"), JSON.stringify(argument)];
    this.service = Service.start("", { command: [...before, ...words], env: environment });
    void this.service.exited.then(() => (this.#hasExited = true));
  }

  /** Of the supervisor. */
  get pid(): number {
    return this.service.pid;
  }

  /** Waits until every worker accepts or has failed, and no upgrade is under way. */
  async settled(): Promise<Status> {
    return this.eventually(
      ({ state, workers = [] }) =>
        state === "ready" && workers.every((one) => one.state === "ready" || one.state === "failed"),
    );
  }

  /** Waits for a status that is as the test wants it. */
  async eventually(isWanted: (status: Status) => boolean): Promise<Status> {
    return until(
      async () => this.status(),
      isWanted,
      (last) => `the status stays ${JSON.stringify(last)}\n${this.service.transcript()}`,
    );
  }

  /** Of the supervisor; waits until it answers. */
  async status(): Promise<Status> {
    return (await (await this.client()).ask({ command: "status" })).status;
  }

  async workers(): Promise<WorkerStatus[]> {
    return (await this.status()).workers!;
  }

  /** The PIDs of the workers that serve, by index. */
  async pids(): Promise<number[]> {
    return (await this.workers()).map(({ pid }) => pid!);
  }

  /** Resolves when the new workers are confirmed. Rejects with the failure. */
  async upgrade(timeout?: number): Promise<Extract<Answer, { answer: "upgraded" }>> {
    return (await this.beginUpgrade(timeout)).answer;
  }

  /** Asks for an upgrade, and waits for nothing. */
  async beginUpgrade(timeout?: number): Promise<UpgradeUnderWay> {
    const client = await this.client();
    const committed = deferred<void>();
    const onPhase = ({ phase }: Phase): void => {
      if (phase === "committed") committed.resolve();
    };
    const request = { command: "upgrade" as const, ...(timeout === undefined ? {} : { timeout }) };
    const answer = client.ask(request, onPhase);
    // A test may look at it later than it fails.
    answer.catch(committed.reject);
    committed.promise.catch(() => {});
    return { answer, committed: committed.promise };
  }

  /** Upgrades, and waits until the new workers are confirmed and the old ones have left. */
  async replace(): Promise<Status> {
    const { generation } = await this.upgrade();
    return this.eventually(
      (status) =>
        status.state === "ready" && status.generation === generation && status.predecessors.length === 0,
    );
  }

  /** Changes the number of workers. */
  async scale(workers: number): Promise<Extract<Answer, { answer: "scaled" }>> {
    return (await this.client()).ask({ command: "scale", workers });
  }

  /** Replaces the worker of an index, or each one. Resolves when the new processes are confirmed. */
  async restart(index?: number): Promise<Extract<Answer, { answer: "restarted" }>> {
    return (await this.client()).ask({ command: "restart", ...(index === undefined ? {} : { index }) });
  }

  /** Runs a command in a worker whose fixture obeys. */
  async tell(pid: number, command: string, ...args: unknown[]): Promise<unknown> {
    return obeys(this.directory, pid, command, ...args);
  }

  /** Waits for the first line of this event and with these fields, from `from` on. */
  async until(event: string, fields: Partial<Line> = {}, from = 0): Promise<Line> {
    return this.service.until(event, fields, from);
  }

  /** Stops it by a signal, and sees that it exits with this code and leaves no process. */
  async stop(code = 0): Promise<void> {
    process.kill(this.pid, "SIGTERM");
    await this.ends(code);
  }

  /** Waits until it has ended, and sees that it exited with this code and left no process. */
  async ends(code: number): Promise<void> {
    await expectEnd(this.service, code);
  }

  /** A connection to the control socket, for one request. The socket exists soon after the start. */
  async client(): Promise<ControlClient> {
    const connect = async (): Promise<ControlClient | undefined> =>
      ControlClient.connect(this.controlSocket).catch(() => undefined);
    const client = await until(
      connect,
      (found) => found !== undefined || this.#hasExited,
      () => `there is no control socket\n${this.service.transcript()}`,
    );
    if (client === undefined) throw new Error(`the supervisor has exited\n${this.service.transcript()}`);
    return client;
  }
}

async function expectEnd(service: Service, code: number): Promise<void> {
  expect(await service.exited).toEqual([code, null]);
  await service.ended();
  expect(service.alive()).toEqual([]);
}

/** Looks again and again, until it sees what is wanted. */
async function until<T>(
  look: () => Promise<T>,
  isWanted: (seen: T) => boolean,
  message: (last: T) => string,
): Promise<T> {
  let last: T;
  const see = async (): Promise<boolean> => isWanted((last = await look()));
  await expect
    .poll(see, { interval: 20 })
    .toBe(true)
    .catch((cause: Error) => {
      throw new Error(message(last), { cause });
    });
  return last!;
}
