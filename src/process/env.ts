import { systemClock, type Clock } from "../util/clock.js";
import { channelVariable } from "./channel-variable.js";
import type { Command } from "./command.js";
import { launchInfo, type OwnLaunch } from "./launch-info.js";
import { spawnProcess, type SpawnedProcess } from "./spawn.js";

/**
 * The operating system as the driver of an upgrade uses it. Tests replace single fields to drive spawning, time and exit
 * by hand.
 */
export interface Env {
  readonly pid: number;
  /** How this process was started. A successor is started in the same way. */
  readonly launch: OwnLaunch;
  /** Names the channel to the predecessor; undefined in the first process of a service. */
  readonly channelVariable: string | undefined;
  readonly clock: Clock;
  /** Starts a process whose descriptor 3 is `channel`. Rejects if it cannot be started. */
  readonly spawn: (command: Command, channel: number, env: NodeJS.ProcessEnv) => Promise<SpawnedProcess>;
  readonly exit: (code: number) => void;
}

export const systemEnv: Env = {
  pid: process.pid,
  launch: launchInfo,
  channelVariable,
  clock: systemClock,
  spawn: async (command, channel, env) => spawnProcess(launchInfo, command, channel, env),
  exit: (code) => process.exit(code),
};
