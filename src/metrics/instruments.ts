import { readdirSync } from "node:fs";
import type { UpgradeRecord } from "../events.js";
import type { Distribution, Totals } from "./totals.js";

/** The members of an `Upgrader` that the metrics read. */
export interface Measured {
  readonly worker?: { readonly index: number } | undefined;
  readonly generation: number;
  readonly connections: number;
  readonly totals: Totals;
  /** Its part in a service on several hosts; undefined if it has none. */
  readonly hosts?: MeasuredHosts | undefined;
  on(event: "recorded", listener: (record: UpgradeRecord) => void): unknown;
  off(event: "recorded", listener: (record: UpgradeRecord) => void): unknown;
}

interface MeasuredHosts {
  readonly lease: string;
  /** in ms */
  readonly remaining: number;
  readonly peers: readonly unknown[];
  readonly offered: number;
  readonly parked: number;
}

/** A metric. Its values are keyed by the value of its label; without a label the key is empty. */
export type Instrument = {
  /** In the form of OpenTelemetry: `handover.upgrades`. */
  readonly name: string;
  readonly help: string;
  readonly label?: string;
} & (
  | { readonly type: "counter" | "gauge"; readonly unit?: "seconds"; read(): Record<string, number> }
  | { readonly type: "histogram"; readonly unit: "seconds"; read(): Record<string, Distribution> }
);

/** The metrics of a service. */
export function instruments(upg: Measured): Instrument[] {
  return [
    {
      name: "handover.upgrades",
      help: "Upgrades of the service, by outcome.",
      type: "counter",
      label: "outcome",
      read: () => snakeCase(upg.totals.upgrades),
    },
    {
      name: "handover.connections.ended",
      help: "Connections of processes that were replaced or stopped, by how they ended.",
      type: "counter",
      label: "how",
      read: () => snakeCase(upg.totals.connections),
    },
    {
      name: "handover.units.ended",
      help: "Units of processes that were replaced or stopped, by how they ended.",
      type: "counter",
      label: "how",
      read: () => snakeCase(upg.totals.units),
    },
    {
      name: "handover.upgrade.phase.duration",
      help: "Duration of the phases of upgrades that reached their commit.",
      type: "histogram",
      unit: "seconds",
      label: "phase",
      read: () => upg.totals.durations,
    },
    {
      name: "handover.generation",
      help: "The generation of this process: 0 is the first.",
      type: "gauge",
      read: () => ({ "": upg.generation }),
    },
    {
      name: "handover.connections",
      help: "Connections of this process.",
      type: "gauge",
      read: () => ({ "": upg.connections }),
    },
    {
      name: "handover.descriptors",
      help: "Open descriptors of this process.",
      type: "gauge",
      read: () => ({ "": descriptors() }),
    },
    ...(upg.hosts === undefined ? [] : instrumentsOfHosts(() => upg.hosts!)),
  ];
}

function instrumentsOfHosts(hosts: () => MeasuredHosts): Instrument[] {
  return [
    {
      name: "handover.lease.remaining",
      help: "Time until the lease of this process ends, unless it is renewed: 0 without one.",
      type: "gauge",
      unit: "seconds",
      read: () => ({ "": hosts().remaining / 1_000 }),
    },
    {
      name: "handover.peers",
      help: "The other processes of the service on several hosts.",
      type: "gauge",
      read: () => ({ "": hosts().peers.length }),
    },
    {
      name: "handover.parcels",
      help: "Slots and units of this process that it has offered to other hosts, or left for them.",
      type: "gauge",
      label: "state",
      read: () => ({ offered: hosts().offered, parked: hosts().parked }),
    },
  ];
}

/** The label by which the metrics of the workers of one service are told apart; none without a supervisor. */
export function labelsOf({ worker }: Measured): Record<string, string> {
  return worker === undefined ? {} : { worker: String(worker.index) };
}

/** Label values in snake case, as both systems use it: `rolled_back` for `rolledBack`. */
function snakeCase(values: Record<string, number>): Record<string, number> {
  return Object.fromEntries(
    Object.entries(values).map(([name, value]) => [name.replace(/[A-Z]/g, "_$&").toLowerCase(), value]),
  );
}

/** Does not count the descriptor that reads the directory. */
function descriptors(): number {
  return readdirSync("/dev/fd").length - 1;
}
