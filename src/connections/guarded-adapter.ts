import type { Server, Socket } from "node:net";
import { reasonOf } from "../errors.js";
import { refusalOf, type Refusal } from "../exchange/parcel.js";
import { builtins } from "../platform/builtins.js";
import { isThenable } from "../util/timeout.js";
import type { ConnectionAdapter } from "./adapter.js";

/** An adapter whose members never throw, but for `thaw`: handover calls adapters through this interface only. */
export interface GuardedAdapter {
  readonly name: string;
  readonly version: number;
  /** Whether an adopted connection may be dormant. */
  readonly sleeps: boolean;
  quiesce?(socket: Socket, rested: () => void): (() => void) | undefined;
  /** The state of an idle connection; undefined if it is busy, or of another protocol; a refusal if the adapter failed. */
  freeze(socket: Socket): { state: unknown } | Refusal | undefined;
  /**
   * @param isSilent whether the client has not sent anything since its connection was frozen
   * @throws the error by which the adapter refuses the connection
   */
  thaw(socket: Socket, state: unknown, server: Server, isSilent: boolean): void;
  moved?(socket: Socket): void;
  /** Undefined: the connection is to be thawed at once. */
  idleTimeout?(state: unknown): number | undefined;
  /** How a dormant connection ends after {@link idleTimeout}, once it is thawed. Undefined: it is just closed. */
  expire?(state: unknown): ((socket: Socket) => void) | undefined;
  close?(socket: Socket): boolean;
}

type Member = keyof typeof CONSEQUENCES;

/** Of the failure of a member, for people. A write waits while a connection is paused, and may fail when it is made. */
const CONSEQUENCES = {
  idle: "the connection stays",
  quiesce: "the connection moves when it is idle",
  "the undo of quiesce": "the connection stays as it is",
  freeze: "the connection stays",
  save: "the connection stays",
  thaw: "the connection is closed",
  moved: "the connection has moved nevertheless",
  idleTimeout: "the connection is thawed at once",
  close: "the connection stays until it ends or the drain is over",
  write: "the connection continues without it",
  end: "the connection continues without it",
};

const reported = new WeakMap<object, Set<Member>>();

/** Warns of a failure of an adapter; of further ones of the same member not, as there may be thousands of connections. */
export function reportFailure(adapter: { readonly name: string }, member: Member, error: unknown): void {
  const members = reported.get(adapter) ?? new Set();
  reported.set(adapter, members);
  if (members.has(member)) return;
  members.add(member);
  const what = `the connection adapter "${adapter.name}" failed in ${member}, ${CONSEQUENCES[member]}`;
  const detail = error instanceof Error && error.stack !== undefined ? { detail: error.stack } : {};
  process.emitWarning(`${what}: ${reasonOf(error)}`, { code: "HANDOVER_ADAPTER", ...detail });
}

/** Calls a program's adapter. Its failures are warnings: one in a commit or a drain would leave that half done. */
export class AdapterGuard implements GuardedAdapter {
  readonly name: string;
  readonly version: number;
  readonly sleeps: boolean;
  readonly #adapter: ConnectionAdapter;

  constructor(adapter: ConnectionAdapter) {
    this.name = adapter.name;
    this.version = adapter.version;
    this.sleeps = adapter.idleTimeout !== undefined;
    this.#adapter = adapter;
  }

  quiesce(socket: Socket, rested: () => void): (() => void) | undefined {
    const undo = this.#call(
      "quiesce",
      () => toFunction(this.#adapter.quiesce?.(socket, rested)),
      () => undefined,
    );
    return (
      undo &&
      (() =>
        this.#call("the undo of quiesce", () => this.#catchRejection("the undo of quiesce", undo()), NOTHING))
    );
  }

  freeze(socket: Socket): { state: unknown } | Refusal | undefined {
    const idle = this.#call("idle", () => toBoolean(this.#adapter.idle(socket)), ADAPTER_REFUSAL);
    if (idle !== true) return idle === false ? undefined : idle;
    return this.#call("freeze", () => ({ state: notPromise(this.#adapter.freeze(socket)) }), ADAPTER_REFUSAL);
  }

  thaw(socket: Socket, state: unknown, server: Server): void {
    this.#catchRejection("thaw", this.#adapter.thaw(socket, state, server), () => socket.destroy());
  }

  moved(socket: Socket): void {
    this.#call("moved", () => this.#catchRejection("moved", this.#adapter.moved?.(socket)), NOTHING);
  }

  idleTimeout(state: unknown): number | undefined {
    return this.#call("idleTimeout", () => toNumber(this.#adapter.idleTimeout?.(state)), NOTHING);
  }

  close(socket: Socket): boolean {
    return this.#call(
      "close",
      () => toBoolean(this.#adapter.close?.(socket)),
      () => false,
    );
  }

  #call<T, F>(member: Member, call: () => T, onFailure: (error: unknown) => F): T | F {
    try {
      return call();
    } catch (error) {
      reportFailure(this, member, error);
      return onFailure(error);
    }
  }

  /** A rejected promise of an asynchronous member would otherwise end the process. */
  #catchRejection(member: Member, result: unknown, onFailure: () => void = NOTHING): void {
    if (!isThenable(result)) return;
    Promise.resolve(result).catch((error: unknown) => {
      reportFailure(this, member, error);
      onFailure();
    });
  }
}

const NOTHING = (): undefined => undefined;
const ADAPTER_REFUSAL = (error: unknown): Refusal => refusalOf(error, "ERR_ADAPTER");

/** JavaScript takes a promise for true, and would move a connection in the middle of a request. */
function toBoolean(result: unknown): boolean {
  if (typeof result === "boolean") return result;
  if (result === undefined) return false;
  throw wrongResult("true or false", result);
}

function toFunction(result: unknown): (() => unknown) | undefined {
  if (result === undefined || result === null) return undefined;
  if (typeof result === "function") return result as () => unknown;
  throw wrongResult("a function or undefined", result);
}

/** JSON would make `{}` of a promise, and lose the state. */
export function notPromise(result: unknown): unknown {
  if (isThenable(result)) throw wrongResult("the state itself", result);
  return result;
}

function toNumber(result: unknown): number | undefined {
  if (result === undefined || (typeof result === "number" && !Number.isNaN(result))) return result;
  throw wrongResult("a number of ms", result);
}

function wrongResult(expected: string, result: unknown): Error {
  if (isThenable(result)) Promise.resolve(result).catch(() => {});
  return new Error(`it must return ${expected}, not ${builtins.util.inspect(result, { depth: 0 })}`);
}
