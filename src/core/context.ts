import { Tracker } from "../connections/tracker.js";
import type { Emit } from "../events.js";
import { toHandoverError } from "../errors.js";
import { FencingTokens } from "../exchange/fencing.js";
import type { Hosts } from "../exchange/hosts.js";
import { acceptPhase, assertMayRun, type State } from "../lifecycle.js";
import type { Settings } from "../options.js";
import type { Env } from "../process/env.js";
import { readInheritance } from "../process/inheritance.js";
import { PidFile } from "../process/pid-file.js";
import type { ControlLink } from "../process/control-link.js";
import { Predecessors } from "../process/predecessors.js";
import type { SupervisorLink } from "../process/supervisor-link.js";
import { openSocket } from "../sockets/bind.js";
import { Inventory } from "../sockets/inventory.js";
import { Sockets } from "../sockets/sockets.js";
import { ProcessState } from "../state/process-state.js";
import { takeActivation } from "../systemd/activation.js";
import { ServiceManager } from "../systemd/service-manager.js";
import { storeNames } from "../systemd/store.js";
import { UpgradeHistory } from "./history.js";

/** Everything one process owns: what it inherited and what it created. */
export interface ProcessContext extends ContextOwner {
  readonly env: Env;
  readonly settings: Settings;
  /** The number of this process. */
  readonly generation: number;
  readonly inventory: Inventory;
  readonly sockets: Sockets;
  readonly connections: Tracker;
  /** Slots, units and roles. */
  readonly processState: ProcessState;
  /** The other hosts of the service; undefined without the option `exchange`. */
  readonly hosts: Hosts | undefined;
  readonly history: UpgradeHistory;
  readonly predecessors: Predecessors;
  /** To the process that decides when this one accepts; undefined in the first process of a service. */
  readonly controlLink: ControlLink | undefined;
  /** The same, if that is a supervisor. */
  readonly supervisor: SupervisorLink | undefined;
  readonly pidFile: PidFile | undefined;
  readonly serviceManager: ServiceManager;
}

/** The generation that drives the process. */
interface ContextOwner {
  readonly state: () => State;
  readonly emit: Emit;
  /** A listener was opened or closed. */
  readonly inventoryChanged: () => void;
}

/**
 * Takes the inheritance, and creates the parts of this process. A successor inherits from its predecessor, the first process
 * from systemd.
 *
 * @throws {HandoverError} `ERR_CHANNEL`, `ERR_PROTOCOL`, `ERR_UPGRADE_TIMEOUT`, `ERR_DESCRIPTOR`
 */
export function createContext(settings: Settings, env: Env, owner: ContextOwner): ProcessContext {
  const fences = new FencingTokens();
  const { channelVariable } = env;
  const inheritance =
    channelVariable === undefined
      ? undefined
      : readInheritance(channelVariable, env.pid, settings.upgradeTimeout, fences);
  const { items, stored } =
    inheritance === undefined
      ? takeActivation(process.env)
      : { items: inheritance.items, stored: storeNames(inheritance.items) };
  const { generation = 0, supervisor, predecessor, peers = [] } = inheritance ?? {};
  const inventory = new Inventory(items, {
    changed: () => {
      serviceManager.storeListeners();
      supervisor?.keep(inventory.forSuccessor());
      owner.inventoryChanged();
    },
  });
  const connections = new Tracker(settings.tls);
  const predecessors = new Predecessors(predecessor === undefined ? peers : [predecessor]);
  const controlLink = supervisor ?? predecessor;
  const parentPid = (): number | undefined => (controlLink?.isGone === false ? controlLink.pid : undefined);
  const serviceManager = new ServiceManager(generation, env.launch, stored, {
    state: owner.state,
    connections: () => connections.size,
    used: () => inventory.used(),
    unused: () => inventory.inherited(),
    hasPredecessor: () => parentPid() !== undefined,
  });
  const self = {
    generation,
    pid: env.pid,
    ...(supervisor === undefined ? {} : { index: supervisor.place.index }),
  };
  const { exchange, address, release } = settings;
  const hosts = exchange?.join({
    self,
    address,
    release,
    fences,
    onFailure: (error) =>
      owner.emit("failed", { error: toHandoverError(error, "ERR_LEASE", "keep the lease") }),
  });
  const processState = new ProcessState(fences, {
    self,
    directory: supervisor?.directory,
    hosts,
    predecessors: () => predecessors.alive.map((one) => one.exchange),
    isLeaving: () => acceptPhase(owner.state()) === "stopped",
    assertMayRun: (doing, needsHosts) =>
      assertMayRun(owner.state(), parentPid() !== undefined, needsHosts, doing),
  });
  const createHistory = (): UpgradeHistory =>
    new UpgradeHistory(generation, env.pid, processState, (record) => owner.emit("recorded", record));
  // The first process has nothing to take.
  let history = generation === 0 ? undefined : createHistory();
  return {
    ...owner,
    env,
    settings,
    generation,
    inventory,
    sockets: new Sockets(inventory, connections, {
      phase: () => acceptPhase(owner.state()),
      open: async (request) =>
        supervisor?.open(request) ??
        openSocket(request.address, request, predecessor?.isGone === false ? predecessor.pid : undefined),
    }),
    connections,
    processState,
    hosts,
    get history() {
      return (history ??= createHistory());
    },
    predecessors,
    controlLink,
    supervisor,
    pidFile:
      settings.pidFile === undefined || supervisor !== undefined
        ? undefined
        : new PidFile(settings.pidFile, env.pid),
    serviceManager,
  };
}
