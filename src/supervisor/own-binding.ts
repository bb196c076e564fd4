import type { Server } from "node:net";
import { CONTROL_BACKLOG, type ControlBinding } from "../control/binding.js";
import { CONTROL_SOCKET_MODE } from "../control/protocol.js";
import { Inventory, type InventoryItem } from "../sockets/inventory.js";
import { openSocket } from "../sockets/bind.js";

/** The control socket of a process that is not replaced: it is bound once, and its file goes with the process. */
export class OwnBinding implements ControlBinding {
  readonly #inventory = new Inventory([], { changed: () => {} });
  readonly #former: InventoryItem | undefined;
  #server: Server | undefined;

  /** @param former the socket of the program that this process was before */
  constructor(former?: InventoryItem) {
    this.#former = former;
  }

  /** Undefined if there is no socket. */
  get item(): InventoryItem | undefined {
    return this.#inventory.used().find(({ name }) => name === NAME);
  }

  async isLost(): Promise<boolean> {
    return false;
  }

  inheritedPath(): string | undefined {
    const address = this.#former?.address;
    return address?.kind === "unix" ? address.path : undefined;
  }

  async listen(server: Server, path: string): Promise<void> {
    const address = { kind: "unix" as const, path };
    const options = { backlog: CONTROL_BACKLOG, mode: CONTROL_SOCKET_MODE };
    const isSame = path === this.inheritedPath();
    const item = isSame ? this.#former! : { ...(await openSocket(address, options, undefined)), name: NAME };
    this.#inventory.add(item);
    this.#server = server;
    server.listen({ fd: this.#inventory.duplicate(NAME) }, CONTROL_BACKLOG as unknown as () => void);
  }

  /** Closes the socket, and removes its file. */
  close(): void {
    this.#server?.close();
    this.#inventory.closeUsed(new Set());
  }
}

const NAME = "control";
