import { Channel } from "../channel/channel.js";
import { HandoverError, reasonOf } from "../errors.js";
import { adoptChild } from "../platform/child-process.js";
import { closeAll } from "../platform/descriptors.js";
import { systemCause } from "../platform/native.js";
import type { Clock } from "../util/clock.js";
import { shorten } from "../util/shorten.js";
import type { Command } from "./command.js";
import type { Env } from "./env.js";
import { sendInheritance, withChannel, type Legacy } from "./inheritance.js";
import { Successor, type SuccessorListener, type SuccessorState } from "./successor.js";

/**
 * Starts a successor. Its whole inheritance is queued on the channel before it runs: it can read it even if this process
 * is busy or dead by then.
 *
 * @throws {HandoverError} `ERR_SPAWN`
 */
export async function startSuccessor(
  env: Pick<Env, "pid" | "spawn" | "clock">,
  command: Command,
  legacy: Legacy,
  listener: SuccessorListener,
): Promise<Successor> {
  const words = shorten([command.argv0, ...command.args].join(" "), LONGEST_COMMAND);
  const doing = `cannot start a successor, ${words} in ${command.cwd}`;
  let channel: Channel | undefined;
  try {
    const [own, other] = Channel.pair();
    channel = own;
    try {
      sendInheritance(channel, env.pid, legacy);
      const spawned = await env.spawn(command, other, withChannel(command.env, other));
      const generation = legacy.place?.generation ?? legacy.generation + 1;
      return new Successor(env.clock, channel, spawned, generation, listener);
    } finally {
      closeAll([other]);
    }
  } catch (error) {
    if (channel !== undefined) endUnstarted(channel);
    throw new HandoverError("ERR_SPAWN", `${doing}: ${reasonOf(error)}`, { cause: systemCause(error) });
  }
}

/** Characters. A command may have megabytes, as that is why it cannot be started. */
const LONGEST_COMMAND = 1_000;

/**
 * If the process did start, closing the channel would look like the predecessor's death, and it would begin to serve. It is
 * told to exit first.
 */
function endUnstarted(channel: Channel): void {
  channel.send({ type: "rehearsed" });
  channel.listen({ message: (_, fds) => closeAll(fds), end: () => channel.close() });
  channel.readNow();
}

/** Goes on with a successor that another program has started, which this process was until it was replaced by execve(2). */
export function adoptSuccessor(
  clock: Clock,
  state: SuccessorState,
  generation: number,
  listener: SuccessorListener,
): Successor {
  const spawned = Object.assign(adoptChild(state.spawned), { detach: async () => {} });
  return new Successor(clock, new Channel(state.channel), spawned, generation, listener, state);
}
