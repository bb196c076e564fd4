import type { ChildProcess, SpawnOptions } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import type { Socket } from "node:net";
import { constants } from "node:os";
import { isDeepStrictEqual } from "node:util";
import { builtins } from "../platform/builtins.js";
import { TIMED_OUT, withTimeout } from "../util/timeout.js";
import type { Command, LaunchInfo } from "./command.js";
import { doesPreloadShow, withPreload } from "./preload.js";

/** How a process exited: by a code, or by a signal. */
export interface ExitStatus {
  code: number | null;
  signal: NodeJS.Signals | null;
}

/** A process that was started here. */
export interface SpawnedProcess {
  readonly pid: number;
  readonly exited: Promise<ExitStatus>;
  kill(): void;
  /** Asks for the exit status of a process that seems to have exited: {@link exited} resolves with it. */
  requestStatus(): void;
  /** Lets the process live on without this one, as an orphan. {@link exited} stays pending from then on. */
  detach(): Promise<void>;
  /** Stops the process from keeping the event loop alive. */
  unref(): void;
}

/** Starts a process whose descriptor 3 is `channel`. Rejects if it cannot be started. */
export async function spawnProcess(
  launch: LaunchInfo,
  command: Command,
  channel: number,
  env: NodeJS.ProcessEnv,
): Promise<SpawnedProcess> {
  const { file, argv0, args, cwd } = command;
  const options: SpawnOptions = { cwd, env: mayPreload(launch, command) ? withPreload(env) : env };
  if (isStartedBySystemd(launch)) return spawnViaShell([argv0, ...args], channel, options);
  const child = builtins.childProcess.spawn(file, args, { ...options, argv0, stdio: [...STANDARD, channel] });
  await once(child, "spawn");
  return {
    pid: child.pid!,
    exited: exitStatusOf(child),
    kill: () => void child.kill("SIGKILL"),
    requestStatus: () => {},
    detach: async () => {},
    unref: () => child.unref(),
  };
}

/** A program of the same words as this one is loaded by Node as this one was. Another one may be a wrapper. */
function mayPreload({ argv }: LaunchInfo, { argv0, args }: Command): boolean {
  return isDeepStrictEqual([argv0, ...args], argv) && !doesPreloadShow();
}

const STANDARD = ["inherit", "inherit", "inherit"] as const;

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
async function spawnViaShell(
  argv: string[],
  channel: number,
  options: SpawnOptions,
): Promise<SpawnedProcess> {
  const shell = builtins.childProcess.spawn("/bin/sh", ["-c", LAUNCHER, "handover", ...argv], {
    ...options,
    stdio: [...STANDARD, channel, "pipe"],
  });
  const shellExited = exitStatusOf(shell);
  await once(shell, "spawn");
  const pipe = shell.stdio[4] as Socket;
  pipe.on("error", () => {});
  const lines = readLines(pipe);
  const first = await withTimeout(PID_TIMEOUT, lines.next());
  const pid = first === TIMED_OUT ? Number.NaN : Number(first.value);
  if (!Number.isSafeInteger(pid)) {
    shell.kill("SIGKILL");
    pipe.destroy();
    throw new Error(`the launcher shell ${first === TIMED_OUT ? "does not answer" : "has exited"}`);
  }
  const kill = (): void => {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // It has exited and was reaped.
    }
  };
  const requestStatus = (): void => void pipe.write("\n");
  let isDetached = false;
  return {
    pid,
    exited: new Promise((resolve) => {
      const onShellLost = (): void => {
        if (isDetached) return;
        kill();
        resolve({ code: null, signal: "SIGKILL" });
      };
      lines
        .next()
        .then(({ value }) => (value === undefined ? onShellLost() : resolve(fromShellStatus(Number(value)))))
        .catch(onShellLost);
    }),
    kill: () => {
      kill();
      requestStatus();
    },
    requestStatus,
    detach: async () => {
      isDetached = true;
      pipe.destroy();
      // A shell that was stopped by SIGSTOP does not notice the closed pipe.
      shell.kill("SIGKILL");
      await shellExited;
    },
    unref: () => {
      shell.unref();
      pipe.unref();
    },
  };
}

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

function exitStatusOf(child: ChildProcess): Promise<ExitStatus> {
  return new Promise((resolve) => child.once("exit", (code, signal) => resolve({ code, signal })));
}

/** A shell reports a death by signal as 128 and the number of the signal. */
function fromShellStatus(status: number): ExitStatus {
  const signal = SIGNALS.find(([, number]) => number === status - 128)?.[0];
  return signal === undefined ? { code: status, signal: null } : { code: null, signal };
}

const SIGNALS = Object.entries(constants.signals) as [NodeJS.Signals, number][];
