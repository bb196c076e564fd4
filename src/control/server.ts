import { createServer, type Server, type Socket } from "node:net";
import type { EventEmitter } from "node:events";
import type { HandoverError } from "../errors.js";
import { withTimeout } from "../util/timeout.js";
import type { ControlBinding } from "./binding.js";
import { isAutomatic, newSocketPath } from "./runtime-directory.js";
import { ControlSession, type ControlEvents, type ControlledProcess } from "./session.js";

/**
 * The server of the control socket. A client that is connected when its process is replaced stays with that process,
 * which answers it before it exits.
 */
export class ControlServer {
  readonly #server: Server;
  readonly #controlled: ControlledProcess;
  readonly #events: EventEmitter<ControlEvents>;
  readonly #clients = new Set<Socket>();
  readonly #answers = new Set<Promise<void>>();
  #isOpen = false;

  constructor(controlled: ControlledProcess, events: EventEmitter<ControlEvents>) {
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
    new ControlSession(client, this.#controlled, this.#events).serve((answered) => {
      const answer = answered.finally(() => this.#answers.delete(answer));
      this.#answers.add(answer);
    });
  }
}

function ended(client: Socket): Promise<void> {
  return new Promise((resolve) => {
    client.once("close", () => resolve());
    client.end();
  });
}
