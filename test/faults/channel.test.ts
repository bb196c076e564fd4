import { readdirSync, readlinkSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { FaultInjector, type Fault, type FaultyFunction } from "../support/fault-injector.js";
import { Service } from "../support/service.js";

/**
 * Lets one call of sendmsg or recvmsg fail in an upgrade under load, for each call of an upgrade and each of its processes.
 * `npm run test:faults` takes every call; the tests of `npm test` take some.
 */
const EVERY = process.env["HANDOVER_FAULTS"] === "every";
const CALLS = EVERY ? [1, 2, 3, 4, 5, 6, 7, 8, 9] : [1, 2, 3, 5, 7];

const settings = { probation: 400, drainTimeout: 2_500, upgradeTimeout: 10_000, exitTimeout: 3_000 };

const places: [role: string, process: number, name: FaultyFunction][] = [
  ["the predecessor", 0, "sendmsg"],
  ["the predecessor", 0, "recvmsg"],
  ["the successor", 1, "sendmsg"],
  ["the successor", 1, "recvmsg"],
];

test.each(places)(
  "an upgrade loses nothing if the kernel has no buffers for one call of %s (process %i: %s)",
  { timeout: 100_000 },
  async (_, process, name) => {
    await eachCall(async (calls) => {
      const { outcome, cut } = await upgrade({ process, function: name, calls, error: "ENOBUFS" });
      expect({ calls, outcome, cut }).toEqual({ calls, outcome: "confirmed", cut: 0 });
    });
  },
);

test.each(places)(
  "one process serves, and the reason is reported, if one call of %s fails with an error that lasts (process %i: %s)",
  { timeout: 120_000 },
  async (_, process, name) => {
    await eachCall(async (calls) => {
      const { outcome, messages } = await upgrade({ process, function: name, calls, error: "EIO" });
      expect({ calls, outcome, messages }).toEqual({
        calls,
        outcome,
        messages: expect.stringMatching(/EIO/) as unknown,
      });
    });
  },
);

test.each(places)(
  "one process serves, and the reason is reported, also without a probation, if one call of %s fails with an error that lasts (process %i: %s)",
  { timeout: 120_000 },
  async (_, process, name) => {
    await eachCall(async (calls) => {
      const fault: Fault = { process, function: name, calls, error: "EIO" };
      const { outcome, messages, cut, ended } = await upgrade(fault, { probation: 0 });
      expect({
        calls,
        outcome,
        messages,
        isCounted: outcome !== "confirmed" || ended >= cut,
      }).toEqual({
        calls,
        outcome: expect.stringMatching(/^(confirmed|rolledBack|failed)$/) as unknown,
        messages: expect.stringMatching(/EIO/) as unknown,
        isCounted: true,
      });
    });
  },
);

/** Some at a time: an upgrade mostly waits. */
async function eachCall(check: (call: number) => Promise<void>): Promise<void> {
  const left = [...CALLS];
  const work = async (): Promise<void> => {
    for (let call; (call = left.shift()) !== undefined;) await check(call);
  };
  await Promise.all([work(), work(), work()]);
}

interface Result {
  outcome: unknown;
  /** What the service has printed of its errors. */
  messages: string;
  /** Connections that were closed during the upgrade. */
  cut: number;
  /** Connections that the predecessor has counted as destroyed or unsettled. */
  ended: number;
}

/**
 * Upgrades a service under load while one call fails. Whatever becomes of the upgrade: one process accepts afterwards, no
 * connection was answered by two processes in turn, no request hangs, and no descriptor and no process is left over.
 */
async function upgrade(fault: Fault, options: object = {}): Promise<Result> {
  const injector = new FaultInjector();
  const service = Service.start("http.js", { settings: { ...settings, ...options }, env: injector.env });
  await service.until("accepting");
  const before = sockets(service.pid);
  const clients = Array.from({ length: 12 }, (_, n) => new Client(service.port, n < 6));
  await Promise.all(clients.map(async (client) => client.asked()));

  injector.arm(fault);
  process.kill(service.pid, "SIGHUP");
  // A successor whose channel has failed may lack the record of its upgrade.
  const ended = await Promise.race([
    service.until("exited", { generation: 0 }),
    service.until("recorded", { generation: 0 }),
  ]);
  const outcome = ended.event === "exited" ? "confirmed" : ended["outcome"];
  if (outcome === "confirmed") await service.until("accepting", { generation: 1 });
  const pid = outcome === "confirmed" ? (service.accepting?.pid ?? 0) : service.pid;
  const answers = await Promise.all(Array.from({ length: 12 }, async () => service.ask()));
  expect(new Set(answers)).toEqual(new Set([String(pid)]));
  await Promise.all(clients.map(async (client) => client.stop()));
  const cut = clients.filter((client) => client.isCut).length;
  const where = JSON.stringify(fault);
  const last = clients.filter((client) => !client.isCut).map((client) => client.pids.at(-1));
  expect(last).toEqual(last.map(() => pid));
  for (const client of clients) {
    expect({ where, odd: client.odd, pids: client.pids }).toEqual({
      where,
      odd: [],
      pids: [...new Set(client.pids)],
    });
  }
  await expect.poll(() => service.alive(), { message: where }).toEqual([pid]);
  await expect.poll(() => sockets(pid), { message: where }).toBe(before);
  const { calls = 0, failed = 0 } = injector.counts(fault.process)?.[fault.function] ?? {};
  // An upgrade has fewer calls in one process than in the other.
  const isMade = calls >= Number(fault.calls);
  expect({ where, failed }).toEqual({ where, failed: isMade ? 1 : 0 });
  const absent = isMade ? [] : [`${fault.error} did not come: there were ${calls} calls`];
  service.killAll();
  const failures = service.lines.filter(({ code }) => code !== undefined);
  const exit = service.lines.find(({ event }) => event === "exit");
  return {
    outcome,
    cut,
    ended: Number(exit?.["destroyed"] ?? 0) + Number(exit?.["unsettled"] ?? 0),
    messages: [...failures.map(({ message }) => message), ...absent, service.noise].join("\n"),
  };
}

/** Sockets and memory files that a process has: everything that the channel may leave behind. */
function sockets(pid: number): number {
  const files = readdirSync(`/proc/${pid}/fd`).map((fd) => {
    try {
      return readlinkSync(`/proc/${pid}/fd/${fd}`);
    } catch {
      return "";
    }
  });
  return files.filter((file) => file.startsWith("socket:") || file.startsWith("/memfd:")).length;
}

/** One connection that asks again and again, or once before and once after the upgrade. */
class Client {
  /** The processes that have answered, without repetitions in a row. */
  readonly pids: number[] = [];
  /** Answers that no client should see. */
  readonly odd: string[] = [];
  readonly #socket: Socket;
  readonly #isBusy: boolean;
  #text = "";
  #answer: (() => void) | undefined;
  #isStopping = false;
  #isClosed = false;
  readonly #loop: Promise<void>;
  readonly #first: Promise<void>;

  constructor(port: number, isBusy: boolean) {
    this.#isBusy = isBusy;
    this.#socket = connect(port, "127.0.0.1").setEncoding("latin1");
    this.#socket.on("error", () => {}).on("data", (text: string) => this.#read(text));
    this.#socket.once("close", () => {
      this.#isClosed = true;
      this.#answer?.();
    });
    onTestFinished(() => void this.#socket.destroy());
    this.#first = this.#ask();
    this.#loop = this.#work();
  }

  get isCut(): boolean {
    return this.#isClosed && !this.#isStopping;
  }

  async asked(): Promise<void> {
    return this.#first;
  }

  /** Asks a last time. */
  async stop(): Promise<void> {
    const isCut = this.#isClosed;
    this.#isStopping = !isCut;
    await this.#loop;
    if (!isCut) {
      await this.#ask();
      if (this.#isClosed) this.#isStopping = false;
    }
    this.#socket.destroy();
  }

  async #work(): Promise<void> {
    await this.#first;
    while (this.#isBusy && !this.#isStopping && !this.#isClosed) {
      await this.#ask();
      await new Promise((resolve) => setTimeout(resolve, 4));
    }
  }

  async #ask(): Promise<void> {
    if (this.#isClosed) return;
    await new Promise<void>((resolve) => {
      const late = setTimeout(() => {
        this.odd.push("no answer within 10 s");
        resolve();
      }, 10_000);
      this.#answer = () => {
        clearTimeout(late);
        this.#answer = undefined;
        resolve();
      };
      this.#socket.write("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    });
  }

  #read(text: string): void {
    this.#text += text;
    const end = this.#text.indexOf("\r\n\r\n");
    const length = Number(/content-length: (\d+)/i.exec(this.#text)?.[1] ?? 0);
    if (end < 0 || this.#text.length < end + 4 + length) return;
    const answer = this.#text.slice(0, end + 4 + length);
    this.#text = this.#text.slice(answer.length);
    if (this.#answer === undefined || !answer.startsWith("HTTP/1.1 200")) this.odd.push(answer);
    else if (this.pids.at(-1) !== Number(answer.slice(end + 4)))
      this.pids.push(Number(answer.slice(end + 4)));
    this.#answer?.();
  }
}
