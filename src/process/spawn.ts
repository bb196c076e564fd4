import { readFileSync } from "node:fs";
import { Socket } from "node:net";
import { isDeepStrictEqual } from "node:util";
import {
  signalName,
  startProgram,
  type ChildProcess,
  type ExitStatus,
  type Program,
} from "../platform/child-process.js";
import { check, native } from "../platform/native.js";
import { TIMED_OUT, withTimeout } from "../util/timeout.js";
import type { Command } from "./command.js";
import type { LaunchInfo } from "./launch-info.js";
import { PeerProcess } from "./peer-process.js";
import { doesPreloadShow, withPreload } from "./preload.js";

/** A process that was started here. */
export interface SpawnedProcess extends ChildProcess {
  /** Lets the process live on without this one, as an orphan. {@link exited} stays pending from then on. */
  detach(): Promise<void>;
}

/** Starts a process whose descriptor 3 is `channel`. Rejects if it cannot be started. */
export async function spawnProcess(
  launch: LaunchInfo,
  command: Command,
  channel: number,
  env: NodeJS.ProcessEnv,
): Promise<SpawnedProcess> {
  const program = { ...command, env: mayPreload(launch, command) ? withPreload(env) : env };
  if (isStartedBySystemd(launch)) return spawnViaShell(program, channel);
  const child = await startProgram(program, [...STANDARD, channel]);
  return Object.assign(child, { detach: async () => {} });
}

/** A program of the same words as this one is loaded by Node as this one was. Another one may be a wrapper. */
function mayPreload({ argv }: LaunchInfo, { argv0, args }: Command): boolean {
  return isDeepStrictEqual([argv0, ...args], argv) && !doesPreloadShow();
}

const STANDARD = [0, 1, 2] as const;

/**
 * Whether systemd started this process. systemd (252) kills a main process that is not its own child without waiting for
 * it, and does not notice its death, so a successor has to become systemd's child.
 */
export function isStartedBySystemd({ env }: LaunchInfo): boolean {
  const { INVOCATION_ID, NOTIFY_SOCKET } = env;
  if (INVOCATION_ID === undefined && NOTIFY_SOCKET === undefined) return false;
  try {
    return readFileSync(`/proc/${process.ppid}/comm`, "utf8").trim() === "systemd";
  } catch {
    return false;
  }
}

/**
 * Starts a process through a launcher shell, which reports its PID and its exit status. When the shell exits first, as it
 * does when this process is gone, the process becomes systemd's child.
 */
async function spawnViaShell(program: Program, channel: number): Promise<SpawnedProcess> {
  const { shell, pipe } = await startShell(program, channel);
  pipe.on("error", () => {});
  const lines = readLines(pipe);
  const first = await withTimeout(PID_TIMEOUT, lines.next());
  const pid = first === TIMED_OUT ? Number.NaN : Number(first.value);
  if (!Number.isSafeInteger(pid)) {
    shell.kill();
    pipe.destroy();
    throw new Error(`the launcher shell ${first === TIMED_OUT ? "does not answer" : "has exited"}`);
  }
  const successor = new PeerProcess(pid);
  const requestStatus = (): void => void pipe.write("\n");
  let isDetached = false;
  return {
    pid,
    exited: new Promise((resolve) => {
      const onShellLost = (): void => {
        if (isDetached) return;
        successor.kill();
        resolve({ code: null, signal: "SIGKILL" });
      };
      lines
        .next()
        .then(({ value }) => (value === undefined ? onShellLost() : resolve(fromShellStatus(Number(value)))))
        .catch(onShellLost);
    }),
    kill: () => {
      successor.kill();
      requestStatus();
    },
    requestStatus,
    detach: async () => {
      isDetached = true;
      successor.close();
      pipe.destroy();
      // A shell that was stopped by SIGSTOP does not notice the closed pipe.
      shell.kill();
      await shell.exited;
    },
    unref: () => {
      shell.unref();
      pipe.unref();
    },
  };
}

/** `pipe` is the shell's descriptor 4. */
async function startShell(
  { argv0, args, cwd, env }: Program,
  channel: number,
): Promise<{ shell: ChildProcess; pipe: Socket }> {
  const [own, other] = check(native().streamPair(), "make", "a pair of sockets");
  let pipe: Socket | undefined;
  try {
    pipe = new Socket({ fd: own });
    const words = ["-c", LAUNCHER, "handover", argv0, ...args];
    const launcher = { file: SHELL, argv0: SHELL, args: words, cwd, env };
    return { shell: await startProgram(launcher, [...STANDARD, channel, other]), pipe };
  } catch (error) {
    if (pipe === undefined) native().close(own);
    else pipe.destroy();
    throw error;
  } finally {
    native().close(other);
  }
}

const SHELL = "/bin/sh";

/**
 * The shell closes its copy of the channel: the end of the channel must mean that the successor is gone. It ignores signals
 * that a terminal or systemd sends to the whole group.
 */
const LAUNCHER = `trap '' HUP INT TERM
"$@" <&0 4>&- &
exec 3>&-
echo $! >&4
read -r _ <&4 || exit 0
wait $!
echo $? >&4`;

/** ms in which the launcher shell has to report a PID. */
const PID_TIMEOUT = 5_000;

async function* readLines(socket: Socket): AsyncGenerator<string> {
  let rest = "";
  for await (const chunk of socket.setEncoding("utf8")) {
    const lines = (rest + (chunk as string)).split("\n");
    rest = lines.pop()!;
    yield* lines;
  }
}

/** A shell reports a death by signal as 128 and the number of the signal. */
function fromShellStatus(status: number): ExitStatus {
  const signal = signalName(status - 128);
  return signal === undefined ? { code: status, signal: null } : { code: null, signal };
}
