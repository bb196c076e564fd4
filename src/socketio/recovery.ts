import { overrideMember } from "../platform/node-internals.js";
import { v8Codec } from "../state/codec.js";
import type { Slot } from "../state/slots/slots.js";
import type { Upgrader } from "../upgrader.js";
import type { Adapter, Io, Namespace, SavedSession } from "./internals.js";

/** What `connectionStateRecovery` keeps of the clients of one namespace. */
interface Kept {
  readonly namespace: string;
  readonly sessions: readonly SavedSession[];
  readonly packets: NonNullable<Adapter["packets"]>;
}

/**
 * The sessions of clients that are not connected, and the packets that they have missed. They move, so that a client that
 * comes back after an upgrade recovers. With an adapter that keeps them outside of the process there is nothing to move.
 */
export class Recovery {
  readonly #upg: Pick<Upgrader, "state">;
  readonly #io: Io;
  readonly #slot: Slot<Kept[]>;

  constructor(upg: Pick<Upgrader, "slot" | "on" | "state">, io: Io) {
    this.#upg = upg;
    this.#io = io;
    this.#slot = upg.slot<Kept[]>(`socket.io ${io.path()}`, { version: 1, codec: v8Codec });
    this.#slot.subscribe(({ data }) => this.#take(data));
    upg.on("draining", () => this.#leave());
  }

  /** Calls `join`, for a client that comes back when what is kept of it has arrived. */
  before(auth: Record<string, unknown>, join: () => unknown): unknown {
    if (typeof auth["pid"] !== "string" || typeof auth["offset"] !== "string") return join();
    return this.#slot.complete().then((arrived) => {
      for (const { data } of arrived) this.#take(data);
      return join();
    });
  }

  /** A client on polling cannot move: its next request goes to the successor. It is told to come back. */
  #leave(): void {
    for (const connection of Object.values(this.#io.engine.clients)) {
      const { name, dataReq } = connection.transport;
      // To end it now would lose the event that it is sending.
      if (name === "polling" && !dataReq) connection.close(true);
    }
    const all = [...this.#io._nsps.values()].map((namespace) => keptOf(namespace));
    const kept = all.filter((one) => one !== undefined && one.sessions.length + one.packets.length > 0);
    if (kept.length > 0) void this.#slot.initiate(kept as Kept[]);
    for (const namespace of this.#io._nsps.values()) this.#keepMoving(namespace);
  }

  /** Clients that stay are disconnected later. */
  #keepMoving(namespace: Namespace): void {
    const { adapter } = namespace;
    if (keptOf(namespace) === undefined || Object.hasOwn(adapter, "persistSession")) return;
    overrideMember(adapter, "persistSession", (session) => {
      (Object.getPrototypeOf(adapter) as Adapter).persistSession.call(adapter, session);
      if (this.#upg.state !== "draining") return;
      void this.#slot.initiate([{ ...keptOf(namespace)!, sessions: [session] }]);
    });
  }

  #take(all: readonly Kept[]): void {
    for (const { namespace, sessions, packets } of all) {
      const adapter = this.#io._nsps.get(namespace)?.adapter;
      if (adapter?.sessions === undefined || adapter.packets === undefined) continue;
      for (const session of sessions) adapter.sessions.set(session.pid, session);
      const known = new Set(adapter.packets.map(({ id }) => id));
      adapter.packets.unshift(...packets.filter(({ id }) => !known.has(id)));
    }
  }
}

/** Undefined with another adapter, or without `connectionStateRecovery`. */
function keptOf({ name, adapter }: Namespace): Kept | undefined {
  const { sessions, packets } = adapter;
  if (!(sessions instanceof Map) || !Array.isArray(packets)) return undefined;
  return { namespace: name, sessions: [...sessions.values()], packets };
}
