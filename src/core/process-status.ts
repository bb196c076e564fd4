import type { Status } from "../control/protocol.js";
import type { ProcessContext } from "./context.js";
import { publicState } from "../lifecycle.js";
import { nextCommand } from "../process/command.js";
import { boundTo } from "../sockets/describe.js";
import { VERSION } from "../util/version.js";

/** What a process tells of itself, and of the generations before it. */
export async function statusOf(estate: ProcessContext): Promise<Status> {
  const {
    generation: number,
    connections,
    inventory,
    history: journal,
    predecessors: older,
    settings,
    state,
  } = estate;
  const { spawn, computesSpawn, ...told } = settings;
  return {
    state: publicState(state()),
    generation: number,
    pid: process.pid,
    uptime: Math.round(process.uptime()),
    version: VERSION,
    node: process.version,
    listeners: inventory.forSuccessor().map(({ name, fd, activation }) => ({
      name,
      ...boundTo(fd),
      ...(activation === undefined ? {} : { passed: true }),
    })),
    connections: connections.size,
    predecessors: await older.progress(),
    upgrades: journal.records,
    settings: told,
    ...(computesSpawn ? {} : { command: nextCommand(spawn()) }),
  };
}
