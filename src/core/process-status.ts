import type { Status } from "../control/protocol.js";
import type { Staged } from "../events.js";
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
    ...(context.hosts === undefined ? {} : { hosts: context.hosts.status() }),
    settings: shown,
    signalListeners: otherListeners(settings.signals.upgrade),
    ...(computesSpawn ? {} : { command: nextCommand(env.launch, spawn()) }),
  };
}

/** Nothing in a process without a free descriptor, which has to be able to say so. */
function residentMemory(): { memory?: number } {
  try {
    return { memory: process.memoryUsage.rss() };
  } catch {
    return {};
  }
}
