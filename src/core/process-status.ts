import type { Status } from "../control/protocol.js";
import type { Estate } from "./context.js";
import { publicState } from "../lifecycle.js";
import { plannedCommand } from "../process/command.js";
import { boundTo } from "../sockets/held-server.js";
import { VERSION } from "../util/version.js";

/** What a process tells of itself, and of the generations before it. */
export async function statusOf(estate: Estate): Promise<Status> {
  const { number, connections, inventory, journal, older, settings, state } = estate;
  const { spawn, computesSpawn, ...told } = settings;
  return {
    state: publicState(state()),
    generation: number,
    pid: process.pid,
    uptime: Math.round(process.uptime()),
    version: VERSION,
    node: process.version,
    listeners: inventory.legacy().map(({ name, fd, activation }) => ({
      name,
      ...boundTo(fd),
      ...(activation === undefined ? {} : { passed: true }),
    })),
    connections: connections.size,
    older: await older.report(),
    upgrades: journal.records,
    settings: told,
    ...(computesSpawn ? {} : { command: plannedCommand(spawn()) }),
  };
}
