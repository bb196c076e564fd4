import { onModuleLoad, overrideMember } from "../platform/node-internals.js";

/** The members of a `Server` of socket.io 4 that are used. */
export interface FoundServer {
  readonly engine: object;
  readonly opts?: { readonly connectionStateRecovery?: unknown };
  path(): string;
  of(name: string): object;
}

/** The servers of socket.io that the program makes, from whichever copy of the package. */
export class FoundSocketIo {
  readonly #servers: FoundServer[] = [];
  #found: ((server: FoundServer) => void) | undefined;

  /** To be made before the program loads the package. */
  constructor() {
    const classes = new WeakSet<object>();
    onModuleLoad(isSocketIo, (exports) => {
      const { Server } = (exports ?? {}) as { Server?: { prototype: { bind?: unknown } } };
      const prototype = Server?.prototype as { bind?: (engine: unknown) => unknown } | undefined;
      const bind = prototype?.bind;
      if (typeof bind !== "function" || classes.has(prototype!)) return;
      classes.add(prototype!);
      const add = (server: FoundServer): void => this.#add(server);
      // A server calls its documented method when it is attached to an HTTP server.
      overrideMember(prototype!, "bind", function (this: FoundServer, engine) {
        const result = bind.call(this, engine);
        add(this);
        return result;
      });
    });
  }

  /** Calls `found` for each server, those that are there already too. */
  onFound(found: (server: FoundServer) => void): void {
    this.#found = found;
    for (const server of this.#servers.splice(0)) found(server);
  }

  #add(server: FoundServer): void {
    if (this.#found === undefined) this.#servers.push(server);
    else this.#found(server);
  }
}

function isSocketIo(name: string): boolean {
  return name === "socket.io" || name.endsWith("/socket.io/dist/index.js");
}
