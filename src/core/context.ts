import { Tracker } from "../connections/tracker.js";
import type { Tell } from "../events.js";
import { Fences } from "../exchange/fencing.js";
import { State as Memory } from "../state/process-state.js";
import { Journal } from "./history.js";
import type { Event, State } from "../lifecycle.js";
import type { Settings } from "../options.js";
import { origin } from "../process/command.js";
import { OlderGenerations } from "../process/predecessors.js";
import { readInheritance } from "../process/inheritance.js";
import { PidFile } from "../process/pid-file.js";
import type { Report } from "../process/predecessor.js";
import { requireActive } from "../refusal.js";
import { Inventory } from "../sockets/inventory.js";
import { Sockets } from "../sockets/sockets.js";
import { takeActivation } from "../systemd/activation.js";
import { ServiceManager } from "../systemd/service-manager.js";
import { storeNames } from "../systemd/store.js";

/** What a process has, as it passes from generation to generation. */
export interface Estate extends Owner {
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
  readonly manager: ServiceManager;
}

/** The process itself. */
interface Owner {
  readonly tell: Tell;
  readonly state: () => State;
  readonly happen: (event: Event) => void;
  /** How this process's drain is going. */
  readonly report: () => Report;
}

/**
 * Takes what the predecessor hands on, or what systemd passes where there is none, and adds what each process makes
 * for itself. Of what is told systemd hears before the owner.
 *
 * @throws {HandoverError} `ERR_PROTOCOL`, `ERR_UPGRADE_TIMEOUT`, `ERR_DESCRIPTOR`
 */
export function inherit(settings: Settings, owner: Owner): Estate {
  const fences = new Fences();
  const inheritance = readInheritance(settings.upgradeTimeout, fences);
  const { items, stored } =
    inheritance === undefined
      ? takeActivation(process.env)
      : { items: inheritance.items, stored: storeNames(inheritance.items) };
  const number = inheritance?.generation ?? 0;
  const inventory = new Inventory(items);
  const connections = new Tracker();
  const older = new OlderGenerations(inheritance?.parent);
  const manager = new ServiceManager(number, origin.env, stored, {
    connections: () => connections.size,
    used: () => inventory.used(),
    unused: () => inventory.inherited(),
    hasParent: () => older.parentPid !== undefined,
  });
  inventory.onChange = () => manager.keepListeners();
  const tell: Tell = (event, payload) => {
    manager.hear(event, payload);
    owner.tell(event, payload);
  };
  const memory = new Memory(fences, {
    older: () => older.alive.map(({ exchange }) => exchange),
    requireActive: (doing) => requireActive(owner.state(), older.parentPid !== undefined, doing),
  });
  return {
    ...owner,
    number,
    settings,
    inventory,
    sockets: new Sockets(inventory, connections, () => older.parentPid),
    connections,
    memory,
    journal: new Journal(number, memory, (record) => tell("recorded", record)),
    older,
    pidFile: settings.pidFile === undefined ? undefined : new PidFile(settings.pidFile),
    manager,
    tell,
  };
}
