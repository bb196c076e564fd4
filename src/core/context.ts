import { Tracker } from "../connections/tracker.js";
import type { Emit } from "../events.js";
import { FencingTokens } from "../exchange/fencing.js";
import { ProcessState as Memory } from "../state/process-state.js";
import { UpgradeHistory } from "./history.js";
import { type Event, type State, assertMayRun } from "../lifecycle.js";
import type { Settings } from "../options.js";
import { launchInfo } from "../process/command.js";
import { Predecessors } from "../process/predecessors.js";
import { readInheritance } from "../process/inheritance.js";
import { PidFile } from "../process/pid-file.js";
import type { DrainProgress } from "../process/predecessor.js";
import { Inventory } from "../sockets/inventory.js";
import { Sockets } from "../sockets/sockets.js";
import { takeActivation } from "../systemd/activation.js";
import { ServiceManager } from "../systemd/service-manager.js";
import { storeNames } from "../systemd/store.js";

/** What a process has, as it passes from generation to generation. */
export interface ProcessContext extends Owner {
  /** Of this process. */
  readonly generation: number;
  readonly settings: Settings;
  readonly inventory: Inventory;
  readonly sockets: Sockets;
  readonly connections: Tracker;
  /** What it holds besides sockets and connections. */
  readonly processState: Memory;
  readonly history: UpgradeHistory;
  readonly predecessors: Predecessors;
  readonly pidFile: PidFile | undefined;
  readonly serviceManager: ServiceManager;
}

/** The process itself. */
interface Owner {
  readonly emit: Emit;
  readonly state: () => State;
  readonly dispatch: (event: Event) => void;
  /** How this process's drain is going. */
  readonly report: () => DrainProgress;
}

/**
 * Takes what the predecessor hands on, or what systemd passes where there is none, and adds what each process makes
 * for itself. Of what is told systemd hears before the owner.
 *
 * @throws {HandoverError} `ERR_PROTOCOL`, `ERR_UPGRADE_TIMEOUT`, `ERR_DESCRIPTOR`
 */
export function createContext(settings: Settings, owner: Owner): ProcessContext {
  const fences = new FencingTokens();
  const inheritance = readInheritance(settings.upgradeTimeout, fences);
  const { items, stored } =
    inheritance === undefined
      ? takeActivation(process.env)
      : { items: inheritance.items, stored: storeNames(inheritance.items) };
  const number = inheritance?.generation ?? 0;
  const inventory = new Inventory(items);
  const connections = new Tracker();
  const older = new Predecessors(inheritance?.predecessor);
  const manager = new ServiceManager(number, launchInfo.env, stored, {
    connections: () => connections.size,
    used: () => inventory.used(),
    unused: () => inventory.inherited(),
    hasPredecessor: () => older.directPid !== undefined,
  });
  inventory.onChange = () => manager.storeListeners();
  const tell: Emit = (event, payload) => {
    manager.onEvent(event, payload);
    owner.emit(event, payload);
  };
  const memory = new Memory(fences, {
    predecessors: () => older.alive.map(({ exchange }) => exchange),
    assertMayRun: (doing) => assertMayRun(owner.state(), older.directPid !== undefined, doing),
  });
  return {
    ...owner,
    generation: number,
    settings,
    inventory,
    sockets: new Sockets(inventory, connections, () => older.directPid),
    connections,
    processState: memory,
    history: new UpgradeHistory(number, memory, (record) => tell("recorded", record)),
    predecessors: older,
    pidFile: settings.pidFile === undefined ? undefined : new PidFile(settings.pidFile),
    serviceManager: manager,
    emit: tell,
  };
}
