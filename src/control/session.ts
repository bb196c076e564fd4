import type { EventEmitter } from "node:events";
import type { Socket } from "node:net";
import { HandoverError, reasonOf } from "../errors.js";
import type { DrainSummary, Rehearsal, Staged, UpgradeResult, UpgraderEvents } from "../events.js";
import type { EngineReport } from "../exchange/hosts.js";
import type { Outcome } from "../lifecycle.js";
import { native } from "../platform/native.js";
import { descriptorOf } from "../platform/node-internals.js";
import { LONGEST_TIMEOUT } from "../util/clock.js";
import { shorten } from "../util/shorten.js";
import { VERSION } from "../util/version.js";
import { readLines, writeLine, type Answer, type Phase, type ScalePhase, type Status } from "./protocol.js";

/** What clients are told of. A supervisor says how many workers it is about. */
export interface ControlEvents extends UpgraderEvents {
  upgrading: [UpgraderEvents["upgrading"][0] & { workers?: number }];
  unstaged: [UpgraderEvents["unstaged"][0] & { workers?: number }];
  upgraded: [UpgraderEvents["upgraded"][0] & { workers?: number }];
  /** One more new worker of a supervisor is ready. */
  workerReady: [{ ready: number; workers: number }];
}

/** The process that clients of the control socket control. */
export interface ControlledProcess {
  upgrade(signal: AbortSignal | undefined, force?: boolean): Promise<UpgradeResult>;
  rehearse(signal: AbortSignal | undefined, force?: boolean): Promise<Rehearsal>;
  stage(ttl: number | undefined, signal: AbortSignal | undefined, force?: boolean): Promise<Staged>;
  unstage(): Staged | undefined;
  /** Resolves when the drain is over. */
  stopAndDrain(): Promise<{ outcome: Outcome } & DrainSummary>;
  status(): Promise<Status>;
  /** Looks at the engine of the hosts. The result is undefined if the service has no engine, or if no worker answers. */
  inspect(): Promise<EngineReport | undefined>;
  /** Changes the number of workers. Undefined in a process that is no supervisor. */
  scale?(workers: number, onPhase: (phase: ScalePhase) => void): Promise<{ from: number; workers: number }>;
  /** Replaces the worker of an index, or all. Undefined in a process that is no supervisor. */
  restart?(index: number | undefined, signal: AbortSignal | undefined): Promise<UpgradeResult>;
  /** Prepares the upgrade of a supervisor itself. Undefined in a process that is no supervisor. */
  upgradeSupervisor?(): Promise<Replacement>;
}

/** A program that is about to replace the one of this process. */
export interface Replacement {
  number: number;
  /** Of the next program. */
  version: string;
  /** Replaces this program: nothing is answered afterwards. Idempotent. */
  begin(): void;
}

/** One client of the control socket, which is greeted, and has one request. */
export class ControlSession {
  readonly #client: Socket;
  readonly #controlled: ControlledProcess;
  readonly #events: EventEmitter<ControlEvents>;

  constructor(client: Socket, controlled: ControlledProcess, events: EventEmitter<ControlEvents>) {
    this.#client = client;
    this.#controlled = controlled;
    this.#events = events;
  }

  /** @param onRequest called with a promise that resolves when the request is answered */
  serve(onRequest: (answered: Promise<void>) => void): void {
    const client = this.#client;
    // A client that has disconnected needs no answer.
    client.on("error", () => client.destroy());
    if (!isTrusted(client)) {
      return this.#refuse("only the same user, or root, may control this process");
    }
    writeLine(client, { handover: VERSION, pid: process.pid });
    let hasRequest = false;
    readLines(
      client,
      (request) => {
        if (hasRequest) return;
        hasRequest = true;
        onRequest(this.#answer(request));
      },
      () => this.#refuse("a request must be one line of JSON"),
    );
  }

  #refuse(message: string): void {
    writeLine(this.#client, { answer: "failed", code: "ERR_CONTROL", message });
    this.#client.end();
  }

  async #answer(request: Record<string, unknown>): Promise<void> {
    try {
      writeLine(this.#client, await this.#perform(request));
    } catch (error) {
      const code = error instanceof HandoverError ? error.code : "ERR_CONTROL";
      writeLine(this.#client, { answer: "failed", code, message: shorten(reasonOf(error)) });
    }
    this.#client.end();
  }

  async #perform(request: Record<string, unknown>): Promise<Answer> {
    const { command, timeout, force } = request;
    switch (command) {
      case "status":
        return { answer: "status", status: await this.#controlled.status() };
      case "inspect": {
        const report = await this.#controlled.inspect();
        return { answer: "inspected", ...(report === undefined ? {} : { report }) };
      }
      case "stop":
        return this.#stop();
      case "upgrade":
        return this.#withPhases(timeout, async (signal, why) => {
          const { settled, ...result } = await this.#controlled.upgrade(signal, force === true);
          if ((await settled) === "confirmed") return { answer: "upgraded", ...result };
          throw new HandoverError("ERR_ROLLED_BACK", `rolled back: ${why()}`);
        });
      case "rehearse":
        return this.#withPhases(timeout, async (signal) => {
          return { answer: "rehearsed", ...(await this.#controlled.rehearse(signal, force === true)) };
        });
      case "stage": {
        const ttl = requireTimeout(request["ttl"]);
        return this.#withPhases(timeout, async (signal) => {
          return { answer: "staged", ...(await this.#controlled.stage(ttl, signal, force === true)) };
        });
      }
      case "scale": {
        if (this.#controlled.scale === undefined) throw notSupported("scale");
        const send = (phase: ScalePhase): void => writeLine(this.#client, phase);
        const scaled = await this.#controlled.scale(request["workers"] as number, send);
        return { answer: "scaled", ...scaled };
      }
      case "restart":
        if (this.#controlled.restart === undefined) throw notSupported("restart");
        return this.#withPhases(timeout, async (signal, why) => {
          const index = request["index"] as number | undefined;
          const { settled, ...result } = await this.#controlled.restart!(index, signal);
          if ((await settled) === "confirmed") return { answer: "restarted", ...result };
          throw new HandoverError("ERR_ROLLED_BACK", `rolled back: ${why()}`);
        });
      case "upgrade-supervisor":
        return this.#replace();
      case "unstage":
        return { answer: "unstaged", ...this.#controlled.unstage() };
      default:
        throw new HandoverError("ERR_CONTROL", `there is no command ${JSON.stringify(command)}`);
    }
  }

  async #replace(): Promise<Answer> {
    if (this.#controlled.upgradeSupervisor === undefined) throw notSupported("upgrade --supervisor");
    const replacement = await this.#controlled.upgradeSupervisor();
    const { number, version } = replacement;
    // When the client can read the answer, or has left.
    if (this.#client.destroyed) replacement.begin();
    else for (const event of ["finish", "close"]) this.#client.once(event, () => replacement.begin());
    return { answer: "replacing", number, version };
  }

  async #stop(): Promise<Answer> {
    const listeners = this.#reportPhases();
    try {
      return { answer: "stopped", ...(await this.#controlled.stopAndDrain()) };
    } finally {
      listeners.remove();
    }
  }

  /** Reports the phases while `work` runs. After a commit the signal has no effect. */
  async #withPhases(
    timeout: unknown,
    work: (signal: AbortSignal, whyRolledBack: () => string) => Promise<Answer>,
  ): Promise<Answer> {
    const limit = requireTimeout(timeout);
    const controller = new AbortController();
    const late = new HandoverError("ERR_UPGRADE_TIMEOUT", `the successor was not ready within ${limit} ms`);
    const timer = limit === undefined ? undefined : setTimeout(() => controller.abort(late), limit);
    const listeners = this.#reportPhases();
    try {
      return await work(controller.signal, () => listeners.whyRolledBack());
    } finally {
      clearTimeout(timer);
      listeners.remove();
    }
  }

  #reportPhases(): { remove(): void; whyRolledBack(): string } {
    let why = "";
    const send = (phase: Phase): void => writeLine(this.#client, phase);
    const handlers = {
      upgrading: (payload: ControlEvents["upgrading"][0]) => send({ phase: "spawned", ...payload }),
      workerReady: (payload: ControlEvents["workerReady"][0]) => send({ phase: "worker-ready", ...payload }),
      unstaged: ({ reason, ...payload }: ControlEvents["unstaged"][0]) =>
        send({ phase: "unstaged", ...payload, reason: shorten(reason) }),
      upgraded: (payload: ControlEvents["upgraded"][0]) => send({ phase: "committed", ...payload }),
      draining: ({ connections }: UpgraderEvents["draining"][0]) => send({ phase: "draining", connections }),
      rollback: ({ error }: UpgraderEvents["rollback"][0]) => void (why = error.message),
    };
    const names = Object.keys(handlers) as (keyof typeof handlers)[];
    for (const name of names) this.#events.on(name, handlers[name]);
    return {
      remove: () => names.forEach((name) => this.#events.off(name, handlers[name])),
      whyRolledBack: () => why,
    };
  }
}

/** The error of a process that has no workers. */
function notSupported(command: string): HandoverError {
  const message = `there is no ${command} of this process, which runs alone: handover upgrade replaces it, and handover run starts a service of several workers`;
  return new HandoverError("ERR_NOT_SUPPORTED", message);
}

/** A timer of Node that is longer runs at once. */
function requireTimeout(timeout: unknown): number | undefined {
  if (timeout === undefined) return undefined;
  if (typeof timeout === "number" && timeout > 0 && timeout <= LONGEST_TIMEOUT) return timeout;
  const given = JSON.stringify(timeout);
  throw new HandoverError("ERR_OPTION", `a timeout must be from 1 to ${LONGEST_TIMEOUT} ms, not ${given}`);
}

function isTrusted(client: Socket): boolean {
  try {
    const peer = native().peerCredentials(descriptorOf(client));
    return typeof peer !== "number" && (peer.uid === 0 || peer.uid === process.geteuid?.());
  } catch {
    return false;
  }
}
