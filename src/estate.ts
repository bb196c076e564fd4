import type { Tracker } from "./connections/tracker.js";
import type { Tell } from "./events.js";
import type { State as Memory } from "./handoff/state.js";
import type { Journal } from "./journal.js";
import type { Event, State } from "./lifecycle.js";
import type { Settings } from "./options.js";
import type { OlderGenerations } from "./process/older.js";
import type { PidFile } from "./process/pid-file.js";
import type { Report } from "./process/predecessor.js";
import type { Inventory } from "./sockets/inventory.js";
import type { Sockets } from "./sockets/sockets.js";

/** What a process has, as it passes from generation to generation. */
export interface Estate {
  /** Of this process. */
  readonly number: number;
  readonly settings: Settings;
  readonly inventory: Inventory;
  readonly sockets: Sockets;
  readonly connections: Tracker;
  /** What it holds besides sockets and connections. */
  readonly memory: Memory;
  readonly journal: Journal;
  readonly older: OlderGenerations;
  readonly pidFile: PidFile | undefined;
  readonly tell: Tell;
  readonly state: () => State;
  readonly happen: (event: Event) => void;
  /** How this process's drain is going. */
  readonly report: () => Report;
}
