import { spawn, type ChildProcess, type SpawnOptions } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import type { Socket } from "node:net";
import { constants } from "node:os";
import { TIMED_OUT, withTimeout } from "../util/timeout.js";
import { launchInfo, type Command } from "./command.js";

/** How a process ended. */
export interface ExitStatus {
  code: number | null;
  signal: NodeJS.Signals | null;
}

/** A process that was started here. */
export interface SpawnedProcess {
  readonly pid: number;
  readonly exited: Promise<ExitStatus>;
  kill(): void;
  /** It seems to have ended: find out how. */
  requestStatus(): void;
  /** From now on it lives without us, as a child of whoever takes in orphans. How it ends will not be known. */
  detach(): Promise<void>;
  /** The event loop need not wait for it. */
  unref(): void;
}

/** Starts a process whose descriptor 3 is `channel`. Rejects if it cannot be started. */
export async function startProcess(
  command: Command,
  channel: number,
  env: NodeJS.ProcessEnv,
): Promise<SpawnedProcess> {
  const { file, argv0, args, cwd } = command;
  const options: SpawnOptions = { cwd, env };
  if (isOfSystemd()) return spawnViaShell([argv0, ...args], channel, options);
  const child = spawn(file, args, { ...options, argv0, stdio: [...STANDARD, channel] });
  await once(child, "spawn");
  return {
    pid: child.pid!,
    exited: ended(child),
    kill: () => void child.kill("SIGKILL"),
    requestStatus: () => {},
    detach: async () => {},
    unref: () => child.unref(),
  };
}

const STANDARD = ["inherit", "inherit", "inherit"] as const;

/** A main process that is not its own child systemd (252) kills at a stop without waiting, and does not see die. */
export function isOfSystemd(): boolean {
  const { INVOCATION_ID, NOTIFY_SOCKET } = launchInfo.env;
  if (INVOCATION_ID === undefined && NOTIFY_SOCKET === undefined) return false;
  try {
    return readFileSync(`/proc/${process.ppid}/comm`, "utf8").trim() === "systemd";
  } catch {
    return false;
  }
}

/**
 * Starts a process by way of a shell, which tells its PID, and how it ended. Where the shell ends first, as it does when
 * this process is gone, the process becomes systemd's child.
 */
async function spawnViaShell(
  words: string[],
  channel: number,
  options: SpawnOptions,
): Promise<SpawnedProcess> {
  const midwife = spawn("/bin/sh", ["-c", LAUNCHER, "handover", ...words], {
    ...options,
    stdio: [...STANDARD, channel, "pipe"],
  });
  const gone = ended(midwife);
  await once(midwife, "spawn");
  const talk = midwife.stdio[4] as Socket;
  talk.on("error", () => {});
  const lines = readLines(talk);
  const first = await withTimeout(PID_TIMEOUT, lines.next());
  const pid = first === TIMED_OUT ? Number.NaN : Number(first.value);
  if (!Number.isSafeInteger(pid)) {
    midwife.kill("SIGKILL");
    talk.destroy();
    throw new Error(`the shell that starts it ${first === TIMED_OUT ? "does not answer" : "has ended"}`);
  }
  const kill = (): void => {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // It has ended, and was waited for.
    }
  };
  const inquire = (): void => void talk.write("\n");
  let isReleased = false;
  return {
    pid,
    exited: new Promise((resolve) => {
      const lost = (): void => {
        if (isReleased) return;
        kill();
        resolve({ code: null, signal: "SIGKILL" });
      };
      lines
        .next()
        .then(({ value }) => (value === undefined ? lost() : resolve(exitStatusOf(Number(value)))))
        .catch(lost);
    }),
    kill: () => {
      kill();
      inquire();
    },
    requestStatus: inquire,
    detach: async () => {
      isReleased = true;
      talk.destroy();
      // One that was stopped does not see that.
      midwife.kill("SIGKILL");
      await gone;
    },
    unref: () => {
      midwife.unref();
      talk.unref();
    },
  };
}

/** It must not hold the channel, whose end tells of a death; and a signal to all is none to it. */
const LAUNCHER = `trap '' HUP INT TERM
"$@" <&0 4>&- &
exec 3>&-
echo $! >&4
read -r _ <&4 || exit 0
wait $!
echo $? >&4`;

/** ms in which the shell has to tell a PID. */
const PID_TIMEOUT = 5_000;

async function* readLines(socket: Socket): AsyncGenerator<string> {
  let rest = "";
  for await (const chunk of socket.setEncoding("utf8")) {
    const lines = (rest + (chunk as string)).split("\n");
    rest = lines.pop()!;
    yield* lines;
  }
}

function ended(child: ChildProcess): Promise<ExitStatus> {
  return new Promise((resolve) => child.once("exit", (code, signal) => resolve({ code, signal })));
}

/** As a shell tells it: 128 and the number of the signal. */
function exitStatusOf(status: number): ExitStatus {
  const signal = SIGNALS.find(([, number]) => number === status - 128)?.[0];
  return signal === undefined ? { code: status, signal: null } : { code: null, signal };
}

const SIGNALS = Object.entries(constants.signals) as [NodeJS.Signals, number][];
