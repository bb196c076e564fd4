import type { Socket } from "node:net";
import type { Fds } from "../sockets/fds.js";

/** Descriptors of a process without predecessor and successor: nothing is inherited. */
export class StubFds implements Pick<Fds, keyof Fds> {
  async file(): Promise<number | undefined> {
    return undefined;
  }

  async files(): Promise<Map<string, number>> {
    return new Map();
  }

  async addFile(): Promise<void> {}

  async conn(): Promise<Socket | undefined> {
    return undefined;
  }

  async addConn(): Promise<void> {}

  async listener(): Promise<number | undefined> {
    return undefined;
  }

  async addListener(): Promise<void> {}

  async packetConn(): Promise<number | undefined> {
    return undefined;
  }

  async addPacketConn(): Promise<void> {}
}
