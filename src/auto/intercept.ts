import { Server } from "node:net";
import { builtins } from "../platform/builtins.js";
import { overrideMember } from "../platform/node-internals.js";
import { readListenArguments } from "./listen-arguments.js";
import { ProgramExit } from "./program-exit.js";
import type { AutoUpgrader } from "./takeover.js";

/** The servers of this process that were taken over. */
interface Interception {
  /** Undefined if no server was taken over. */
  upgrader(): Promise<AutoUpgrader | undefined>;
}

/** A process of this tree has this variable if an older one listens: it is the one that is upgraded. */
const OWNER_VARIABLE = "HANDOVER_AUTO";

/** The variable by which a process knows that it is a successor, or a worker. */
const CHANNEL_VARIABLE = "HANDOVER_CHANNEL";

/**
 * Replaces `listen()` of all servers. The rest of the package is loaded with the first server that is taken over: a process that
 * opens none has no signal handler and no file of handover.
 */
export function interceptListen(): Interception {
  const isSuccessor = process.env[CHANNEL_VARIABLE] !== undefined;
  if (process.env[OWNER_VARIABLE] !== undefined && !isSuccessor) return { upgrader: async () => undefined };
  const exit = new ProgramExit();
  const { listen } = Server.prototype as unknown as { listen: (this: Server, ...args: unknown[]) => Server };
  let loading: Promise<AutoUpgrader | undefined> | undefined;
  const load = async (): Promise<AutoUpgrader | undefined> => {
    const [{ AutoUpgrader: Auto }, { Upgrader }] = await Promise.all([
      import("./takeover.js"),
      import("../upgrader.js"),
    ]);
    // A program that uses handover itself opens its servers with it.
    return Upgrader.current === undefined ? new Auto(exit) : undefined;
  };
  // It takes its channel out of the environment before the program can start other processes.
  if (isSuccessor) loading = load();
  const intercepted = function (this: Server, ...args: unknown[]): Server {
    const wish = readListenArguments(args);
    if (wish === undefined || this.listening || isClustered()) return listen.apply(this, args);
    if (loading === undefined) process.env[OWNER_VARIABLE] = String(process.pid);
    loading ??= load();
    void loading.then((upgrader) => {
      if (upgrader === undefined) listen.apply(this, args);
      else upgrader.listen(this, wish);
    });
    return this;
  };
  overrideMember(Server.prototype, "listen", intercepted as typeof Server.prototype.listen);
  return { upgrader: async () => loading };
}

/** The servers of a cluster are its primary's, which opens them when a worker asks. */
function isClustered(): boolean {
  if (process.env["NODE_UNIQUE_ID"] !== undefined) return true;
  const { workers } = builtins.cluster;
  return workers !== undefined && Object.keys(workers).length > 0;
}
