import type { Wake } from "../hosts/engine.js";
import type { Gateway } from "./gateway.js";
import type { Keys } from "./keys.js";
import { base64, endOf } from "./txn.js";

/** Listens to what other processes of the service do: their seats, and the bells that they ring. */
export class Watch {
  readonly #gateway: Gateway;
  readonly #keys: Keys;
  readonly #wake: (what: Wake) => void;
  #seat = "";
  #end: (() => void) | undefined;
  #timer: NodeJS.Timeout | undefined;
  #hasHeard = false;
  /** Ranges that have not begun. */
  #missing = 0;

  constructor(gateway: Gateway, keys: Keys, wake: (what: Wake) => void) {
    this.#gateway = gateway;
    this.#keys = keys;
    this.#wake = wake;
  }

  /** Listens to what concerns a seat. Each beat of the seat rings its bell, and {@link expectEcho} follows it. */
  follow(seat: string): void {
    const isSame = this.#seat === seat;
    this.#seat = seat;
    this.#hasHeard = false;
    if (!isSame) this.#listen();
  }

  /** A stream that does not tell of a bell that this process has rung is dead, though its connection has not ended. */
  expectEcho(): void {
    if (this.#hasHeard || this.#timer !== undefined) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      if (!this.#hasHeard) this.#listen();
    }, ECHO);
  }

  /** Something may have happened that was not told. */
  wakeAll(): void {
    for (const what of ["seat", "offer", "role", "own"] as const) this.#wake(what);
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#end?.();
    this.#end = undefined;
  }

  #listen(): void {
    this.stop();
    // What is told before is looked up when it has begun, so no revision needs to be kept, and none may be compacted.
    this.#hasHeard = true;
    this.#missing = 3;
    this.#end = this.#gateway.stream(
      "/v3/watch",
      [
        range(this.#keys.bells(), endOf(this.#keys.bells())),
        range(this.#keys.bell(this.#seat)),
        range(this.#keys.seat(), endOf(this.#keys.seat())),
      ].join("\n"),
      (line) => this.#heard(line),
      () => {
        this.#listenAgain();
      },
    );
  }

  #heard(line: string): void {
    this.#hasHeard = true;
    const { result } = JSON.parse(line) as { result?: WatchResult };
    if (result === undefined || result.canceled === true) {
      this.#end?.();
      this.#listenAgain();
      return;
    }
    if (result.created === true && --this.#missing === 0) this.wakeAll();
    for (const { kv } of result.events ?? [])
      this.#wake(this.#meaningOf(Buffer.from(kv.key, "base64").toString()));
  }

  #listenAgain(): void {
    this.#end = undefined;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#listen(), RETRY);
  }

  #meaningOf(key: string): Wake {
    if (key === this.#keys.offerBell) return "offer";
    if (key === this.#keys.roleBell) return "role";
    return key === this.#keys.bell(this.#seat) ? "own" : "seat";
  }
}

interface WatchResult {
  readonly created?: boolean;
  readonly canceled?: boolean;
  readonly events?: readonly { readonly kv: { readonly key: string } }[];
}

function range(key: string, end?: string): string {
  const range_end = end === undefined ? {} : { range_end: base64(end) };
  return JSON.stringify({ create_request: { key: base64(key), ...range_end } });
}

/** ms until a stream that has ended is asked for again. */
const RETRY = 100;

/** ms after a beat in which the stream must have told of it. */
const ECHO = 1_000;
