import type { Socket as DatagramSocket } from "node:dgram";
import { once } from "node:events";
import { chmodSync } from "node:fs";
import type { AddressInfo, Server, Socket } from "node:net";
import { HandoverError, reasonOf } from "../errors.js";
import { describeAddress } from "../address.js";
import type { ListenRequest } from "../sockets/listen-options.js";

/** Listens and binds by Node's own means: nothing is inherited. */
export class StubSockets {
  readonly #servers = new Set<Server>();
  readonly #datagrams = new Set<DatagramSocket>();
  readonly #connections = new Set<Socket>();

  get connections(): number {
    return this.#connections.size;
  }

  async listen(server: Server, wish: ListenRequest): Promise<AddressInfo | string> {
    const { address, backlog, mode, signal } = wish;
    if (server.listening) throw cannotListen(wish, new Error("the server is already listening"));
    server.on("connection", (connection: Socket) => {
      this.#connections.add(connection);
      connection.once("close", () => this.#connections.delete(connection));
    });
    const abortable = signal === undefined ? {} : { signal };
    server.listen({ ...forNode(address), backlog, ...abortable });
    await begun(server, wish);
    this.#servers.add(server);
    server.once("close", () => this.#servers.delete(server));
    if (address.kind === "unix" && mode !== -1) chmodSync(address.path, mode);
    return server.address()!;
  }

  async bind(socket: DatagramSocket, wish: ListenRequest): Promise<AddressInfo> {
    const { host, port } = wish.address as ListenRequest["address"] & { kind: "udp" };
    socket.bind({ port, address: host });
    await begun(socket, wish);
    this.#datagrams.add(socket);
    socket.once("close", () => this.#datagrams.delete(socket));
    return socket.address();
  }

  /** Closes everything, and waits for connections at most `timeout` ms. Returns how many were destroyed then. */
  async close(timeout: number): Promise<number> {
    for (const socket of this.#datagrams) socket.close();
    let destroyed = 0;
    const late = setTimeout(() => {
      destroyed = this.#connections.size;
      for (const connection of this.#connections) connection.destroy();
    }, timeout);
    await Promise.all([...this.#servers].map((server) => new Promise((resolve) => server.close(resolve))));
    clearTimeout(late);
    return destroyed;
  }
}

/** The host `*` of this package is what Node uses without a host. */
function forNode(address: ListenRequest["address"]): object {
  if (address.kind === "unix") return { path: address.path };
  const { host, port, ipv6Only } = address;
  return { port, ipv6Only, ...(host === "*" ? {} : { host }) };
}

async function begun(emitter: Server | DatagramSocket, wish: ListenRequest): Promise<void> {
  try {
    await once(emitter, "listening");
  } catch (cause) {
    throw cannotListen(wish, cause);
  }
}

function cannotListen({ address }: ListenRequest, cause: unknown): HandoverError {
  const why = (cause as NodeJS.ErrnoException).code ?? reasonOf(cause);
  return new HandoverError("ERR_LISTEN", `cannot listen on ${describeAddress(address)}: ${why}`, { cause });
}
