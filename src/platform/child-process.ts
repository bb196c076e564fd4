import type { ChildProcess as NodeChildProcess } from "node:child_process";
import { once } from "node:events";
import { fstatSync, statSync } from "node:fs";
import { constants } from "node:os";
import { delimiter, isAbsolute } from "node:path";
import { getSystemErrorName } from "node:util";
import { builtins } from "./builtins.js";
import { native, systemError } from "./native.js";
import { killByPid, Pidfd } from "./pidfd.js";

/** A program and how it is called; `argv0` is the name by which it sees itself called. */
export interface Program {
  /** A path, or a name that is looked up on the `PATH` of `env`. */
  file: string;
  argv0: string;
  args: readonly string[];
  cwd: string;
  env: NodeJS.ProcessEnv;
  /** Whether it leads a process group of its own, which is killed with it. Default: it is in the group of this process. */
  leadsGroup?: boolean;
}

/** How a process exited: by a code, or by a signal. Neither is known if another part of this process has reaped it. */
export interface ExitStatus {
  code: number | null;
  signal: NodeJS.Signals | null;
}

/** A process that was started here. It keeps the event loop alive until it has exited, or {@link unref} is called. */
export interface ChildProcess {
  readonly pid: number;
  readonly exited: Promise<ExitStatus>;
  kill(): void;
  /** Asks for the exit status of a process that seems to have exited: {@link exited} resolves with it. */
  requestStatus(): void;
  unref(): void;
}

/**
 * Starts a program, without a copy of this process's memory where that is possible: a copy of the page tables alone blocks
 * the event loop, the longer the larger the heap is.
 *
 * @param fds its descriptors, from 0 on; they stay the caller's
 * @throws an error of the system that names the program, or the directory if that is the reason
 */
export async function startProgram(program: Program, fds: readonly number[]): Promise<ChildProcess> {
  try {
    // Only Node knows what its permissions allow.
    const pid = process.permission === undefined ? startBySystem(program, fds) : undefined;
    return pid === undefined ? await startByNode(program, fds) : new OwnChild(pid, program.leadsGroup);
  } catch (error) {
    throw directoryError(program.cwd) ?? error;
  }
}

/** The pid; undefined where the system cannot do it. */
function startBySystem(program: Program, fds: readonly number[]): number | undefined {
  const { file, argv0, args, cwd, leadsGroup = false } = program;
  const env = Object.entries(program.env).flatMap(([name, value]) =>
    value === undefined ? [] : [`${name}=${value}`],
  );
  let failure = -ENOENT;
  for (const path of placesOf(program)) {
    let pid = native().spawn(path, [argv0, ...args], env, cwd, fds, leadsGroup);
    // A script without `#!`.
    if (pid === -ENOEXEC) pid = native().spawn(SHELL, [SHELL, path, ...args], env, cwd, fds, leadsGroup);
    if (pid >= 0) return pid;
    if (pid === -ENOSYS) return undefined;
    if (!TRY_NEXT.has(-pid)) throw spawnError(file, pid);
    if (failure !== -EACCES) failure = pid;
  }
  throw spawnError(file, failure);
}

/** Like the error of `child_process.spawn`. */
function spawnError(file: string, errno: number): NodeJS.ErrnoException {
  const code = getSystemErrorName(errno);
  return Object.assign(new Error(`spawn ${file} ${code}`), { code, errno });
}

const { EACCES, EAGAIN, ENODEV, ENOENT, ENOEXEC, ENOSYS, ENOTDIR, ESTALE, ETIMEDOUT } = constants.errno;

const SHELL = "/bin/sh";

/** The errors after which execvp(3) looks in the next directory. */
const TRY_NEXT: ReadonlySet<number> = new Set([EACCES, ENODEV, ENOENT, ENOTDIR, ESTALE, ETIMEDOUT]);

/** The files that execvp(3) tries; without those that are not there, because each attempt costs a process. */
function placesOf({ file, env, cwd }: Program): string[] {
  if (file.includes("/")) return [file];
  const places = (env["PATH"] ?? DEFAULT_PATH).split(delimiter).map((one) => `${one || "."}/${file}`);
  return places.filter((one) => mayExist(isAbsolute(one) ? one : `${cwd}/${one}`));
}

/** What execvp(3) searches without a `PATH`. */
const DEFAULT_PATH = "/bin:/usr/bin";

function mayExist(path: string): boolean {
  try {
    return statSync(path, { throwIfNoEntry: false }) !== undefined;
  } catch {
    // For example a directory that this user may not search: the system's error is the one to report.
    return true;
  }
}

/** Why no process can be started in a directory; undefined if it is not the reason. */
function directoryError(directory: string): NodeJS.ErrnoException | undefined {
  try {
    // The dot asks for the permission to enter it.
    statSync(`${directory}/.`);
    return undefined;
  } catch (error) {
    return systemError((error as NodeJS.ErrnoException).errno!, "enter the directory", directory);
  }
}

async function startByNode(
  { file, args, leadsGroup = false, ...options }: Program,
  fds: readonly number[],
): Promise<ChildProcess> {
  // Node refuses a standard descriptor that this process has closed; "ignore" gives /dev/null.
  const stdio = fds.map((fd) => (fd <= 2 && !isOpen(fd) ? "ignore" : fd));
  const child = builtins.childProcess.spawn(file, args, { ...options, stdio, detached: leadsGroup });
  await once(child, "spawn");
  return {
    pid: child.pid!,
    exited: exitStatusOf(child),
    kill: () => (leadsGroup ? killByPid(-child.pid!) : void child.kill("SIGKILL")),
    requestStatus: () => {},
    unref: () => child.unref(),
  };
}

function exitStatusOf(child: NodeChildProcess): Promise<ExitStatus> {
  return new Promise((resolve) => child.once("exit", (code, signal) => resolve({ code, signal })));
}

function isOpen(fd: number): boolean {
  try {
    fstatSync(fd);
    return true;
  } catch {
    return false;
  }
}

/**
 * A child of this process that another program started, which this process was until it was replaced by execve(2).
 *
 * @param pid must be that of a child that was not reaped
 */
export function adoptChild(pid: number): ChildProcess {
  return new OwnChild(pid);
}

/** The child with this pid, if it was started here or adopted, and has not been reaped. */
export function findOwnChild(pid: number): ChildProcess | undefined {
  return ownChildren.get(pid);
}

const ownChildren = new Map<number, OwnChild>();

/**
 * A child that libuv does not know. libuv waits for each of its own pids alone, and this for its own alone, so neither
 * takes the exit status of the other's children. The pid means this child until it is reaped here.
 */
class OwnChild implements ChildProcess {
  readonly pid: number;
  readonly exited: Promise<ExitStatus>;
  readonly #resolveExited: (status: ExitStatus) => void;
  readonly #pidfd: Pidfd | undefined;
  readonly #leadsGroup: boolean;
  /** Runs where there is no pidfd, and where a tracer holds the exit status back. */
  #timer: NodeJS.Timeout | undefined;
  #isKeptAlive = true;
  #hasExited = false;

  constructor(pid: number, leadsGroup = false) {
    this.pid = pid;
    this.#leadsGroup = leadsGroup;
    ownChildren.set(pid, this);
    let resolveExited!: (status: ExitStatus) => void;
    this.exited = new Promise((resolve) => (resolveExited = resolve));
    this.#resolveExited = resolveExited;
    const pidfd = Pidfd.open(pid, () => this.#await());
    if (typeof pidfd !== "number") this.#pidfd = pidfd;
    if (this.#pidfd === undefined) this.#await();
    else this.#pidfd.ref();
  }

  kill(): void {
    if (this.#hasExited) return;
    // The group has its number as long as its leader was not reaped.
    if (this.#leadsGroup) killByPid(-this.pid);
    else if (this.#pidfd === undefined) killByPid(this.pid);
    else this.#pidfd.kill();
  }

  requestStatus(): void {
    if (this.#hasExited) return;
    const ended = native().reap(this.pid);
    if (ended === -EAGAIN) return;
    this.#hasExited = true;
    ownChildren.delete(this.pid);
    this.#pidfd?.close();
    clearInterval(this.#timer);
    this.#resolveExited(typeof ended === "number" ? UNKNOWN : exitStatus(ended));
  }

  unref(): void {
    this.#isKeptAlive = false;
    this.#pidfd?.unref();
    this.#timer?.unref();
  }

  /** The end of the channel is a sign of the exit, but the exit status comes later. */
  #await(): void {
    this.requestStatus();
    if (this.#hasExited) return;
    this.#timer = setInterval(() => this.requestStatus(), LOOK_EVERY);
    if (!this.#isKeptAlive) this.#timer.unref();
  }
}

/** ms between two looks at a process whose end has no event. */
const LOOK_EVERY = 50;

const UNKNOWN: ExitStatus = { code: null, signal: null };

function exitStatus({ bySignal, status }: { bySignal: boolean; status: number }): ExitStatus {
  return bySignal ? { code: null, signal: signalName(status) ?? null } : { code: status, signal: null };
}

export function signalName(number: number): NodeJS.Signals | undefined {
  return SIGNALS.find(([, one]) => one === number)?.[0];
}

const SIGNALS = Object.entries(constants.signals) as [NodeJS.Signals, number][];
