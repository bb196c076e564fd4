import { Server } from "node:net";
import { builtins } from "../platform/builtins.js";
import { hasDescriptor, overrideMember } from "../platform/node-internals.js";
import { channelVariable } from "../process/channel-variable.js";
import { currentUpgrader } from "../process/current.js";
import { launchInfo } from "../process/launch-info.js";
import { readListenArguments } from "./listen-arguments.js";
import { interceptBind } from "./intercept-bind.js";
import { FoundSocketIo } from "./found-socket-io.js";
import { PendingServer } from "./pending-server.js";
import { ProgramExit } from "./program-exit.js";
import type { AutoUpgrader } from "./takeover.js";

/** A process of this tree has this variable if an older one listens: it is the one that is upgraded. */
const OWNER_VARIABLE = "HANDOVER_AUTO";

/**
 * Replaces `listen()` of all servers. The rest of the package is loaded with the first server that is taken over: a process that
 * opens none has no signal handler and no file of handover.
 *
 * @returns declares the program initialized
 */
export function interceptListen(): () => Promise<void> {
  // A successor, or a worker, is not one of the children that stay out.
  if (channelVariable === undefined && process.env[OWNER_VARIABLE] !== undefined) return async () => {};
  if (channelVariable !== undefined) process.env[OWNER_VARIABLE] = String(process.pid);
  // How this process was started is read now: the program may set its title.
  void launchInfo;
  const exit = new ProgramExit();
  const socketIo = new FoundSocketIo();
  const { listen } = Server.prototype as unknown as { listen: (this: Server, ...args: unknown[]) => Server };
  const pending = new WeakMap<Server, PendingServer>();
  let loading: Promise<AutoUpgrader | undefined> | undefined;
  let isDeclared = false;
  const load = async (): Promise<AutoUpgrader | undefined> => {
    const { AutoUpgrader: Auto } = await import("./takeover.js");
    // A program that uses handover itself opens its servers with it.
    return currentUpgrader() === undefined ? new Auto(exit, socketIo, isDeclared) : undefined;
  };
  const take = async (server: Server, args: unknown[], begun: PendingServer): Promise<void> => {
    try {
      const upgrader = await loading;
      const wish = readListenArguments(args);
      if (begun.isClosed) server.emit("close");
      else if (upgrader !== undefined) await upgrader.listen(server, wish!.options, begun);
      else {
        begun.end();
        listen.apply(server, withoutCallback(args));
      }
    } catch (error) {
      begun.end();
      server.emit("error", error);
    } finally {
      if (pending.get(server) === begun) pending.delete(server);
    }
  };
  const intercepted = function (this: Server, ...args: unknown[]): Server {
    const wish = readListenArguments(args);
    if (wish === undefined) return listen.apply(this, args);
    if (isClustered()) {
      warnOfCluster(this);
      return listen.apply(this, args);
    }
    if (loading === undefined && currentUpgrader() !== undefined) return listen.apply(this, args);
    if (this.listening || pending.get(this)?.isClosed === false) throw alreadyListens();
    process.env[OWNER_VARIABLE] = String(process.pid);
    loading ??= load();
    if (wish.callback !== undefined) this.once("listening", wish.callback);
    const begun = new PendingServer(this, wish.options);
    pending.set(this, begun);
    void take(this, args, begun);
    return this;
  };
  overrideMember(Server.prototype, "listen", intercepted as typeof Server.prototype.listen);
  interceptBind(() => {
    if (isClustered() || (loading === undefined && currentUpgrader() !== undefined)) return undefined;
    process.env[OWNER_VARIABLE] = String(process.pid);
    return (loading ??= load());
  });
  return async () => {
    isDeclared = true;
    await (await loading)?.ready();
  };
}

/** The servers of a cluster are its primary's, which opens them when a worker asks. */
function isClustered(): boolean {
  const { isWorker, workers } = builtins.cluster;
  return isWorker || (workers !== undefined && Object.keys(workers).length > 0);
}

/**
 * Once: in the primary, which listens for its workers. Where they accept themselves (`SCHED_NONE`), their primary calls no `listen()`,
 * and the first of them warns.
 */
function warnOfCluster(server: Server): void {
  const { isWorker, worker } = builtins.cluster;
  if (!isWorker) emitWarning();
  else if (worker?.id === 1) server.once("listening", () => hasDescriptor(server) && emitWarning());
}

function emitWarning(): void {
  if (hasWarned) return;
  hasWarned = true;
  const message =
    "handover/auto does not take over the servers of node:cluster: this program works as without it, and cannot be upgraded. " +
    "Let `handover run --auto` run the workers in place of node:cluster";
  process.emitWarning(message, { code: "HANDOVER_CLUSTER" });
}

let hasWarned = false;

function withoutCallback(args: unknown[]): unknown[] {
  return args.filter((arg) => typeof arg !== "function");
}

/** As Node throws it. */
function alreadyListens(): Error {
  const error = new Error("Listen method has been called more than once without closing.");
  return Object.assign(error, { code: "ERR_SERVER_ALREADY_LISTEN" });
}
