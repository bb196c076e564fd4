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

  /**
   * For each beat of this process, which rings the bell of its seat: a stream that has not told of the last one is dead, though its
   * connection has not ended.
   */
  follow(seat: string): void {
    const isAlive = this.#seat === seat && (this.#timer !== undefined || this.#hasHeard);
    this.#seat = seat;
    this.#hasHeard = false;
    if (!isAlive) this.#listen();
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
        this.#end = undefined;
        this.#timer = setTimeout(() => this.#listen(), RETRY);
      },
    );
  }

  #heard(line: string): void {
    this.#hasHeard = true;
    const { result } = JSON.parse(line) as { result?: WatchResult };
    if (result === undefined || result.canceled === true) {
      this.#end?.();
      this.#end = undefined;
      this.#timer = setTimeout(() => this.#listen(), RETRY);
      return;
    }
    if (result.created === true && --this.#missing === 0) this.wakeAll();
    for (const { kv } of result.events ?? [])
      this.#wake(this.#meaningOf(Buffer.from(kv.key, "base64").toString()));
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
