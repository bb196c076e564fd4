import type { Server } from "node:net";
import { overrideMember } from "../platform/node-internals.js";
import type { ListenWish } from "./listen-arguments.js";

/**
 * A server between the program's `listen()` and that of handover, which takes some turns. As in Node it says at once that it
 * listens, if no name is to be looked up, and can be closed.
 */
export class PendingServer {
  isClosed = false;
  readonly #server: Server;
  readonly #members: Partial<Pick<Server, "address" | "close">>;

  constructor(server: Server, { port, host, path }: ListenWish["options"]) {
    this.#server = server;
    const inPort = host === undefined ? { address: "::", family: "IPv6", port: port ?? 0 } : undefined;
    const address = path ?? inPort;
    this.#members = { close: (callback?: () => void) => this.#close(callback) };
    if (address !== undefined) {
      this.#members.address = () => address;
      Object.defineProperty(server, "listening", { get: isTrue, configurable: true });
    }
    for (const name of MEMBERS) {
      const member = this.#members[name];
      if (member !== undefined) overrideMember(server, name, member);
    }
  }

  /** Handover's `listen()` begins: it takes no server that listens. */
  begin(): void {
    const listening = Object.getOwnPropertyDescriptor(this.#server, "listening");
    if (listening?.get === isTrue) delete (this.#server as Partial<{ listening: boolean }>).listening;
  }

  /** Leaves the server to handover, which may have members of its own there by now. */
  end(): void {
    this.begin();
    const server = this.#server as Partial<Server>;
    for (const name of MEMBERS) if (server[name] === this.#members[name]) delete server[name];
  }

  #close(callback: (() => void) | undefined): Server {
    this.isClosed = true;
    this.end();
    if (callback !== undefined) this.#server.once("close", () => callback());
    return this.#server;
  }
}

const MEMBERS = ["address", "close"] as const;

function isTrue(): boolean {
  return true;
}
