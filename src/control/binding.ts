import type { Server } from "node:net";
import type { Inventory } from "../sockets/inventory.js";
import type { Sockets } from "../sockets/sockets.js";
import { CONTROL_SOCKET_MODE } from "./protocol.js";

/** The socket of a control server: where it comes from. */
export interface ControlBinding {
  /** Whether clients no longer find the inherited socket. */
  isLost(): Promise<boolean>;
  /** The path of the inherited socket; undefined without one. */
  inheritedPath(): string | undefined;
  /**
   * @param afresh binds the path even if a socket is inherited
   * @throws {HandoverError} `ERR_LISTEN`
   */
  listen(server: Server, path: string, afresh: boolean): Promise<void>;
}

/** The socket goes from generation to generation, as the listeners of the program do. */
export function inheritedBinding(sockets: Sockets, inventory: Inventory): ControlBinding {
  return {
    isLost: async () => sockets.isFileLost(CONTROL_SOCKET_NAME),
    inheritedPath: () => {
      const address = inventory.inherited().find(({ name }) => name === CONTROL_SOCKET_NAME)?.address;
      return address?.kind === "unix" ? address.path : undefined;
    },
    listen: async (server, path, afresh) => {
      const address = { kind: "unix" as const, path };
      const [name, mode] = [CONTROL_SOCKET_NAME, CONTROL_SOCKET_MODE];
      const request = { address, name, backlog: CONTROL_BACKLOG, mode, signal: undefined, afresh };
      await sockets.listen(server, request, false);
    },
  };
}

/** The name under which successors inherit the socket. */
const CONTROL_SOCKET_NAME = "handover:control";

/** Clients that may wait to be accepted. */
export const CONTROL_BACKLOG = 16;
