import { fstatSync } from "node:fs";
import { EventEmitter } from "node:events";
import { setImmediate as turn } from "node:timers/promises";
import { onTestFinished } from "vitest";
import { Channel } from "../../dist/channel/channel.js";
import type { Message } from "../../dist/channel/messages.js";
import { Generation } from "../../dist/core/generation.js";
import type { UpgraderEvents } from "../../dist/events.js";
import { readOptions, type UpgraderOptions } from "../../dist/options.js";
import { check, native } from "../../dist/platform/native.js";
import { closeAll } from "../../dist/platform/descriptors.js";
import type { Env } from "../../dist/process/env.js";
import type { SpawnedProcess } from "../../dist/process/spawn.js";
import type { Clock } from "../../dist/util/clock.js";

/** Time that moves only by {@link advance}. */
export class ManualClock implements Clock {
  #now = 0;
  readonly #timers = new Set<{ at: number; run: () => void }>();

  now(): number {
    return this.#now;
  }

  after(ms: number, run: () => void): () => void {
    const timer = { at: this.#now + ms, run };
    this.#timers.add(timer);
    return () => void this.#timers.delete(timer);
  }

  /** Runs every timer that is due within the next `ms`, in the order of their times. */
  advance(ms: number): void {
    this.#now += ms;
    const due = [...this.#timers].filter(({ at }) => at <= this.#now).toSorted((a, b) => a.at - b.at);
    for (const timer of due) if (this.#timers.delete(timer)) timer.run();
  }

  /** How many timers wait. */
  get size(): number {
    return this.#timers.size;
  }
}

/** One end of a real channel, whose owner is played by the test. */
export class Counterpart {
  readonly messages: Message[] = [];
  readonly channel: Channel;
  hasEnded = false;

  constructor(fd: number) {
    this.channel = new Channel(fd);
    this.channel.listen({
      message: (message, fds) => {
        closeAll(fds);
        this.messages.push(message);
        this.onMessage?.(message);
      },
      end: () => {
        this.hasEnded = true;
        this.channel.close();
      },
    });
    onTestFinished(() => this.channel.close());
  }

  /** The types of the messages that have arrived. */
  get types(): string[] {
    return this.messages.map(({ type }) => type);
  }

  send(message: Message): void {
    this.channel.send(message);
  }

  protected onMessage?(message: Message): void;

  /** Resolves when a message of this type has arrived. */
  async receives(type: Message["type"]): Promise<void> {
    await until(() => this.types.includes(type), `a message ${type}; there were ${this.types.join(", ")}`);
  }

  greet(generation: number, capabilities: string[] = []): void {
    this.send({ type: "hello", protocol: 1, capabilities, version: "0.0.0", pid: PEER, generation });
  }
}

/** A successor that the test plays. */
export class FakeSuccessor extends Counterpart implements SpawnedProcess {
  readonly pid = PEER;
  readonly exited: SpawnedProcess["exited"];
  isKilled = false;
  /** A signal does not end it, as if it waited for a disk. */
  isUnkillable = false;
  /** Its event loop does not turn. */
  isBlocked = false;
  #exit!: (status: { code: number | null; signal: NodeJS.Signals | null }) => void;

  constructor(fd: number) {
    super(fd);
    this.exited = new Promise((resolve) => (this.#exit = resolve));
  }

  /** Greets, and is ready. */
  ready(used: string[] = []): void {
    this.greet(1);
    this.send({ type: "ready", used });
  }

  /** Is ready, and is of a version that acknowledges the commit and sends heartbeats. */
  readyWithHeartbeat(inspected = false): void {
    const capabilities = ["heartbeat"];
    const pid = PEER;
    this.send({ type: "hello", protocol: 1, capabilities, version: "1.0.0", pid, generation: 1, inspected });
    this.send({ type: "ready", used: [] });
  }

  /** Is ready, and answers that it still is whenever it is asked. */
  readyToBeStaged(): void {
    this.greet(1, ["stage"]);
    this.send({ type: "ready", used: [] });
  }

  protected override onMessage({ type }: Message): void {
    if (this.isBlocked) return;
    if (type === "stage") this.send({ type: "ready", used: [] });
    if (type === "rehearsed") this.exit(0);
  }

  /** Exits by itself. */
  exit(code: number): void {
    this.channel.close();
    this.#exit({ code, signal: null });
  }

  kill(): void {
    this.isKilled = true;
    if (this.isUnkillable) return;
    this.channel.close();
    this.#exit({ code: null, signal: "SIGKILL" });
  }

  requestStatus(): void {}
  async detach(): Promise<void> {}
  unref(): void {}
}

/** The PID of the process at the other end: the kernel sees that the test sends. */
export const PEER = process.pid;

/** A generation on an operating system that the test drives. */
export class DrivenProcess {
  readonly clock = new ManualClock();
  readonly exits: number[] = [];
  readonly successors: FakeSuccessor[] = [];
  /** Every event, by name. */
  readonly events: string[] = [];
  readonly emitter = new EventEmitter<UpgraderEvents>();
  readonly generation: Generation;
  /** Set to make the next spawn fail. */
  spawnError: Error | undefined;
  /** Set to let the next spawns wait for it. */
  spawnGate: Promise<void> = Promise.resolve();
  /** How many spawns have begun. */
  spawns = 0;

  /** The first process of a service; or a successor, if `predecessor` is the other end of its channel. */
  constructor(options: UpgraderOptions = {}, env: Partial<Env> = {}) {
    for (const name of EVENTS) this.emitter.on(name, () => this.events.push(name));
    const settings = readOptions({ exitTimeout: 0, drainTimeout: 5_000, ...options }, "/");
    this.generation = new Generation(settings, this.#env(env), this.emitter);
    onTestFinished(() => this.#close());
  }

  #env(env: Partial<Env>): Env {
    return {
      pid: 1_000,
      launch: {
        argv: ["node", "server.js"],
        env: {},
        physicalCwd: "/",
        logicalCwd: "/",
        warning: undefined,
        variable: () => undefined,
      },
      channelVariable: undefined,
      clock: this.clock,
      spawn: async (_, channel) => {
        this.spawns++;
        if (this.spawnError !== undefined) throw this.spawnError;
        // The caller closes its descriptor only when this has resolved.
        await this.spawnGate;
        const successor = new FakeSuccessor(check(native().duplicate(channel), "duplicate", "the channel"));
        this.successors.push(successor);
        return successor;
      },
      exit: (code) => void this.exits.push(code),
      ...env,
    };
  }

  get state(): string {
    return this.generation.state.name;
  }

  /** The successor that was started last. */
  get successor(): FakeSuccessor {
    return this.successors.at(-1)!;
  }

  /** Starts an upgrade; resolves when the successor runs. The promise of the upgrade never is an unhandled rejection. */
  async startUpgrade(signal?: AbortSignal): Promise<{ upgrade: ReturnType<Generation["upgrade"]> }> {
    const { length } = this.successors;
    const upgrade = this.generation.upgrade(signal);
    upgrade.catch(() => {});
    await until(() => this.successors.length > length, "a successor");
    return { upgrade };
  }

  /** Upgrades up to the commit. */
  async commit(): ReturnType<Generation["upgrade"]> {
    const { upgrade } = await this.startUpgrade();
    this.successor.ready();
    return upgrade;
  }

  /** Resolves when the process is in this state. */
  async reaches(state: string): Promise<void> {
    await until(() => this.state === state, `the state ${state}; it is ${this.state}`);
  }

  async #close(): Promise<void> {
    for (const successor of this.successors) {
      successor.isUnkillable = false;
      successor.kill();
    }
    void this.generation.stop();
    await this.reaches("exited");
    await this.generation.exit;
  }
}

/** Starts a successor of a predecessor that the test plays. */
export function successorOf(options: UpgraderOptions = {}): {
  driven: DrivenProcess;
  predecessor: Counterpart;
} {
  const [left, right] = check(native().socketpair(), "make", "a pair of sockets");
  const predecessor = new Counterpart(left);
  predecessor.greet(0);
  predecessor.send({ type: "inventory", entries: [], more: false });
  const inode = fstatSync(right, { bigint: true }).ino;
  const driven = new DrivenProcess(options, { channelVariable: `${right}:${inode}` });
  return { driven, predecessor };
}

const EVENTS = [
  "ready",
  "rehearsed",
  "staged",
  "unstaged",
  "upgrading",
  "upgraded",
  "failed",
  "draining",
  "rollback",
  "recorded",
  "exit",
] as const satisfies (keyof UpgraderEvents)[];

/** Waits for at most a few thousand turns of the event loop. */
export async function until(isTrue: () => boolean, what: string): Promise<void> {
  for (let n = 0; n < TURNS; n++) {
    if (isTrue()) return;
    await turn();
  }
  throw new Error(`waited in vain for ${what}`);
}

const TURNS = 20_000;
