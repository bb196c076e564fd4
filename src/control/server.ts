import { createServer, type Server, type Socket } from "node:net";
import type { EventEmitter } from "node:events";
import { HandoverError, reasonOf } from "../errors.js";
import type { DrainSummary, Rehearsal, Staged, UpgradeResult, UpgraderEvents } from "../events.js";
import { descriptorOf } from "../platform/node-internals.js";
import type { Outcome } from "../lifecycle.js";
import { native } from "../platform/native.js";
import { LONGEST_TIMEOUT } from "../util/clock.js";
import { withTimeout } from "../util/timeout.js";
import { VERSION } from "../util/version.js";
import type { ControlBinding } from "./binding.js";
import { readLines, writeLine, type Answer, type Phase, type Status } from "./protocol.js";
import { isAutomatic, newSocketPath } from "./runtime-directory.js";

/** The process that clients of the control socket control. */
export interface ControlledProcess {
  upgrade(signal: AbortSignal | undefined, force?: boolean): Promise<UpgradeResult>;
  rehearse(signal: AbortSignal | undefined, force?: boolean): Promise<Rehearsal>;
  stage(ttl: number | undefined, signal: AbortSignal | undefined, force?: boolean): Promise<Staged>;
  unstage(): Staged | undefined;
  /** Resolves when the drain is over. */
  stopAndDrain(): Promise<{ outcome: Outcome } & DrainSummary>;
  status(): Promise<Status>;
}

/**
 * The server of the control socket. A client that is connected when its process is replaced stays with that process,
 * which answers it before it exits.
 */
export class ControlServer {
  readonly #server: Server;
  readonly #controlled: ControlledProcess;
  readonly #events: EventEmitter<UpgraderEvents>;
  readonly #clients = new Set<Socket>();
  readonly #answers = new Set<Promise<void>>();
  #isOpen = false;

  constructor(controlled: ControlledProcess, events: EventEmitter<UpgraderEvents>) {
    this.#controlled = controlled;
    this.#events = events;
    this.#server = createServer((client) => this.#greet(client));
  }

  /**
   * Inherits the socket. Without an inherited socket, or if its file was removed, it is bound. Only this user can connect.
   * It accepts when the other listeners do.
   *
   * @param where its path; `true`: in the user's runtime directory, if that is possible
   */
  async open(binding: ControlBinding, where: string | true): Promise<void> {
    if (this.#isOpen) return;
    const isLost = await binding.isLost();
    if (where === true) await this.#openAutomatic(binding, isLost ? undefined : binding.inheritedPath());
    else await this.#listen(binding, where, isLost);
  }

  /** No option asks for this socket, so that a process without one serves as well. */
  async #openAutomatic(binding: ControlBinding, inherited: string | undefined): Promise<void> {
    const own = inherited !== undefined && isAutomatic(inherited) ? inherited : undefined;
    try {
      const path = own ?? newSocketPath();
      if (path !== undefined) await this.#listen(binding, path, own === undefined);
    } catch (error) {
      const { code, message } = error as HandoverError;
      if (code === "ERR_CONTROL") process.emitWarning(message, { code: "HANDOVER_CONTROL" });
      // The file system may be one in which it cannot be bound.
      else if (code !== "ERR_LISTEN") throw error;
    }
  }

  async #listen(binding: ControlBinding, path: string, afresh: boolean): Promise<void> {
    await binding.listen(this.#server, path, afresh);
    this.#isOpen = true;
  }

  /** Answers the pending requests and closes every connection, within `timeout` ms. */
  async close(timeout: number): Promise<void> {
    const answered = Promise.all(this.#answers).then(() => Promise.all([...this.#clients].map(ended)));
    await withTimeout(timeout, answered);
    for (const client of this.#clients) client.destroy();
  }

  #greet(client: Socket): void {
    this.#clients.add(client);
    client.once("close", () => this.#clients.delete(client));
    // A client that has disconnected needs no answer.
    client.on("error", () => client.destroy());
    if (!isTrusted(client)) {
      return this.#refuse(client, "only the same user, or root, may control this process");
    }
    writeLine(client, { handover: VERSION, pid: process.pid });
    let hasRequest = false;
    readLines(
      client,
      (request) => {
        if (hasRequest) return;
        hasRequest = true;
        const answer = this.#answer(client, request).finally(() => this.#answers.delete(answer));
        this.#answers.add(answer);
      },
      () => this.#refuse(client, "a request must be one line of JSON"),
    );
  }

  #refuse(client: Socket, message: string): void {
    writeLine(client, { answer: "failed", code: "ERR_CONTROL", message });
    client.end();
  }

  async #answer(client: Socket, request: Record<string, unknown>): Promise<void> {
    try {
      writeLine(client, await this.#perform(client, request));
    } catch (error) {
      const code = error instanceof HandoverError ? error.code : "ERR_CONTROL";
      writeLine(client, { answer: "failed", code, message: reasonOf(error) });
    }
    client.end();
  }

  async #perform(client: Socket, request: Record<string, unknown>): Promise<Answer> {
    const { command, timeout, force } = request;
    switch (command) {
      case "status":
        return { answer: "status", status: await this.#controlled.status() };
      case "stop":
        return this.#stop(client);
      case "upgrade":
        return this.#withPhases(client, timeout, async (signal, why) => {
          const { settled, ...result } = await this.#controlled.upgrade(signal, force === true);
          if ((await settled) === "confirmed") return { answer: "upgraded", ...result };
          throw new HandoverError("ERR_ROLLED_BACK", `rolled back: ${why()}`);
        });
      case "rehearse":
        return this.#withPhases(client, timeout, async (signal) => {
          return { answer: "rehearsed", ...(await this.#controlled.rehearse(signal, force === true)) };
        });
      case "stage": {
        const ttl = requireTimeout(request["ttl"]);
        return this.#withPhases(client, timeout, async (signal) => {
          return { answer: "staged", ...(await this.#controlled.stage(ttl, signal, force === true)) };
        });
      }
      case "unstage":
        return { answer: "unstaged", ...this.#controlled.unstage() };
      default:
        throw new HandoverError("ERR_CONTROL", `there is no command ${JSON.stringify(command)}`);
    }
  }

  async #stop(client: Socket): Promise<Answer> {
    const listeners = this.#reportPhases(client);
    try {
      return { answer: "stopped", ...(await this.#controlled.stopAndDrain()) };
    } finally {
      listeners.remove();
    }
  }

  /** Reports the phases while `work` runs. After a commit the signal has no effect. */
  async #withPhases(
    client: Socket,
    timeout: unknown,
    work: (signal: AbortSignal, whyRolledBack: () => string) => Promise<Answer>,
  ): Promise<Answer> {
    const limit = requireTimeout(timeout);
    const controller = new AbortController();
    const late = new HandoverError("ERR_UPGRADE_TIMEOUT", `the successor was not ready within ${limit} ms`);
    const timer = limit === undefined ? undefined : setTimeout(() => controller.abort(late), limit);
    const listeners = this.#reportPhases(client);
    try {
      return await work(controller.signal, () => listeners.whyRolledBack());
    } finally {
      clearTimeout(timer);
      listeners.remove();
    }
  }

  #reportPhases(client: Socket): { remove(): void; whyRolledBack(): string } {
    let why = "";
    const send = (phase: Phase): void => writeLine(client, phase);
    const handlers = {
      upgrading: (payload: UpgraderEvents["upgrading"][0]) => send({ phase: "spawned", ...payload }),
      unstaged: (payload: UpgraderEvents["unstaged"][0]) => send({ phase: "unstaged", ...payload }),
      upgraded: (payload: UpgraderEvents["upgraded"][0]) => send({ phase: "committed", ...payload }),
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

function ended(client: Socket): Promise<void> {
  return new Promise((resolve) => {
    client.once("close", () => resolve());
    client.end();
  });
}
