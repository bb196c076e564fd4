import type { Status } from "../control/protocol.js";
import type { Staged } from "../events.js";
import type { HostsStatus } from "../exchange/hosts.js";
import { publicState } from "../lifecycle.js";
import { nextCommand } from "../process/command.js";
import { otherListeners } from "../process/signals.js";
import { boundTo } from "../sockets/describe.js";
import { VERSION } from "../util/version.js";
import type { ProcessContext } from "./context.js";

/** The status of this process, and the progress of the older generations that still drain. */
export async function statusOf(context: ProcessContext, staged: Staged | undefined): Promise<Status> {
  const { env, generation, connections, inventory, history, predecessors, settings, state } = context;
  const { spawn, computesSpawn, exchange: _, ...shown } = settings;
  return {
    state: publicState(state()),
    generation,
    pid: env.pid,
    uptime: Math.round(process.uptime()),
    version: VERSION,
    node: process.version,
    listeners: inventory.forSuccessor().map(({ name, fd, activation }) => ({
      name,
      ...boundTo(fd),
      ...(activation === undefined ? {} : { passed: true }),
    })),
    connections: connections.size,
    ...residentMemory(),
    predecessors: await predecessors.progress(),
    ...(staged === undefined ? {} : { staged }),
    upgrades: history.records,
    ...(context.hosts === undefined ? {} : { hosts: firstPeers(context.hosts.status()) }),
    settings: shown,
    signalListeners: otherListeners(settings.signals.upgrade),
    ...(computesSpawn ? {} : { command: nextCommand(env.launch, spawn()) }),
  };
}

/** A client of the control socket reads no line that names thousands. */
function firstPeers(hosts: HostsStatus): NonNullable<Status["hosts"]> {
  const more = hosts.peers.length - MOST_PEERS;
  return more <= 0 ? hosts : { ...hosts, peers: hosts.peers.slice(0, MOST_PEERS), morePeers: more };
}

/** With addresses of 2,000 characters they fit into a line. */
const MOST_PEERS = 100;

/** Nothing in a process without a free descriptor, which has to be able to say so. */
function residentMemory(): { memory?: number } {
  try {
    return { memory: process.memoryUsage.rss() };
  } catch {
    return {};
  }
}
