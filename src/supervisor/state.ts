import { readSync, writeSync } from "node:fs";
import { HandoverError, reasonOf } from "../errors.js";
import { native, check, systemError } from "../platform/native.js";
import type { LaunchInfo } from "../process/launch-info.js";
import type { InventoryItem } from "../sockets/inventory.js";
import type { ServiceState } from "./supervisor.js";
import type { WorkerState } from "./worker-process.js";

/** All that the next program of this process needs to go on with the service. */
export interface SupervisorState {
  /** {@link STATE_VERSION} of the program that wrote it. */
  readonly version: number;
  readonly service: ServiceState;
  readonly control?: InventoryItem | undefined;
  /** The upgrades of the supervisor itself so far, this one included. */
  readonly number: number;
  /** The program that wrote it, which goes on if the next one cannot. */
  readonly former: Execution;
  /** How the former program was started: where it goes on, its next upgrade begins there. */
  readonly launch: LaunchInfo;
}

/** A program that replaces that of this process. */
export interface Execution {
  readonly file: string;
  readonly words: readonly string[];
  readonly env: NodeJS.ProcessEnv;
}

/** The state that this program was given. */
export interface InheritedState {
  readonly state: SupervisorState;
  /** The program is only asked whether it can go on. */
  readonly isCheck: boolean;
  /** Why the program after this one could not go on: this one does. */
  readonly failure: string | undefined;
}

/** It changes when a program cannot read the state of the one before. A field may be added; its absence means what was before. */
const STATE_VERSION = 1;

/** `fd:size` of the sealed memory file, for the next program. */
const STATE = "HANDOVER_STATE";
/** It is only asked whether it can go on. */
const CHECK = "HANDOVER_STATE_CHECK";
/** Why another program could not go on. */
const FAILURE = "HANDOVER_STATE_FAILURE";

/**
 * The state that this program was given; undefined if it begins a service.
 *
 * @throws {HandoverError} `ERR_PROTOCOL`
 */
export function readState(): InheritedState | undefined {
  const { [STATE]: place, [CHECK]: isCheck, [FAILURE]: failure } = process.env;
  if (place === undefined) return undefined;
  const state = parse(place);
  if (state.version !== STATE_VERSION)
    throw new HandoverError(
      "ERR_PROTOCOL",
      `cannot go on with the service: its state has version ${state.version}`,
    );
  return { state, isCheck: isCheck !== undefined, failure };
}

/** This program goes on with the service for certain: its state is over, and the programs that it starts get none of it. */
export function settleState(): void {
  const [fd] = placeOf(process.env[STATE]!);
  native().close(fd);
  for (const name of [STATE, CHECK, FAILURE]) delete process.env[name];
}

/**
 * If this program cannot go on with the service that it was given, the former one does. Returns only if there is none, or it
 * cannot be executed.
 */
export function goBack(error: unknown): void {
  const place = process.env[STATE];
  if (place === undefined || process.env[CHECK] !== undefined || process.env[FAILURE] !== undefined) return;
  const state = parse(place);
  const reason = reasonOf(error);
  process.stderr.write(
    `handover: the new supervisor cannot go on with the service: ${reason}; the former one does\n`,
  );
  execute(state.former, state, placeOf(place), { [FAILURE]: reason.slice(0, LONGEST) });
}

/**
 * Replaces the program of this process. Returns only if that has failed.
 *
 * @returns -errno
 */
export function replaceProgram(next: Execution, state: SupervisorState): number {
  const place = writeState(state);
  try {
    return execute(next, state, place, {});
  } finally {
    native().close(place[0]);
  }
}

/** The environment with which a program is asked whether it can go on; its descriptor 3 is the state. */
export function checkEnvironment(env: NodeJS.ProcessEnv, size: number): NodeJS.ProcessEnv {
  return { ...env, [STATE]: `3:${size}`, [CHECK]: "1" };
}

/** Writes it to a sealed memory file. The descriptor is the caller's to close. */
export function writeState(state: SupervisorState): Place {
  const bytes = Buffer.from(JSON.stringify(state));
  const fd = check(native().memfdCreate("handover-state"), "make", "a memory file");
  try {
    for (let done = 0; done < bytes.length;) done += writeSync(fd, bytes, done, bytes.length - done, done);
    check(native().memfdSeal(fd), "seal", "a memory file");
    return [fd, bytes.length];
  } catch (error) {
    native().close(fd);
    throw error;
  }
}

/** The descriptors that the next program takes over become its own. */
export function keepDescriptors(state: SupervisorState): void {
  const [fd] = placeOf(process.env[STATE]!);
  for (const one of [fd, ...descriptorsOf(state)]) {
    check(native().setCloseOnExec(one), "take over", `descriptor ${one}`);
  }
}

export function newState(parts: Omit<SupervisorState, "version">): SupervisorState {
  return { version: STATE_VERSION, ...parts };
}

type Place = readonly [fd: number, size: number];

function execute(
  { file, words, env }: Execution,
  state: SupervisorState,
  [fd, size]: Place,
  more: NodeJS.ProcessEnv,
): number {
  const environment = Object.entries({ ...env, ...more, [STATE]: `${fd}:${size}` }).flatMap(
    ([name, value]) => (value === undefined ? [] : [`${name}=${value}`]),
  );
  return native().execve(file, words, environment, [0, 1, 2, fd, ...descriptorsOf(state)]);
}

function parse(place: string): SupervisorState {
  const [fd, size] = placeOf(place);
  try {
    const isSealed = check(native().memfdSealed(fd), "examine", "the state") === 1;
    if (!isSealed) throw new Error("it is not a sealed memory file");
    const bytes = Buffer.alloc(size);
    for (let done = 0; done < size;) {
      const read = readSync(fd, bytes, done, size - done, done);
      if (read === 0) throw systemError(-5, "read", "the state");
      done += read;
    }
    return JSON.parse(bytes.toString()) as SupervisorState;
  } catch (cause) {
    throw new HandoverError("ERR_PROTOCOL", `cannot read the state of the service: ${reasonOf(cause)}`, {
      cause,
    });
  }
}

function placeOf(text: string): Place {
  const [, fd, size] = /^(\d{1,9}):(\d{1,12})$/.exec(text) ?? [];
  return [Number(fd), Number(size)];
}

/** Every descriptor that a state names. */
function descriptorsOf({ service, control }: SupervisorState): number[] {
  const { workers, listeners } = service;
  const processes: WorkerState[] = [
    ...workers.records.flatMap(({ current }) => current ?? []),
    ...workers.retired,
  ];
  const items = [...listeners.shared, ...listeners.activated, ...listeners.kept.flatMap(([, some]) => some)];
  return [
    ...processes.map(({ successor }) => successor.channel),
    ...listeners.groups.flatMap(({ members }) => members.map(([, fd]) => fd)),
    ...items.map(({ fd }) => fd),
    ...(control === undefined ? [] : [control.fd]),
  ];
}

/** Characters of a reason that is passed on. */
const LONGEST = 1_000;
