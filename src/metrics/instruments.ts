import { readdirSync } from "node:fs";
import type { UpgradeRecord } from "../events.js";
import type { Distribution, Totals } from "./totals.js";

/** What is needed of an `Upgrader`. */
export interface Measured {
  readonly generation: number;
  readonly connections: number;
  readonly totals: Totals;
  on(event: "recorded", listener: (record: UpgradeRecord) => void): unknown;
  off(event: "recorded", listener: (record: UpgradeRecord) => void): unknown;
}

/** One thing that is measured: its values by the one label it has, if it has one. */
export type Instrument = {
  /** As OpenTelemetry has it: `handover.upgrades`. */
  readonly name: string;
  readonly help: string;
  readonly label?: string;
} & (
  | { readonly type: "counter" | "gauge"; read(): Record<string, number> }
  | { readonly type: "histogram"; readonly unit: "seconds"; read(): Record<string, Distribution> }
);

/** All that is measured of a service. */
export function instruments(upg: Measured): Instrument[] {
  return [
    {
      name: "handover.upgrades",
      help: "Upgrades of the service, by how they ended.",
      type: "counter",
      label: "outcome",
      read: () => snakes(upg.totals.upgrades),
    },
    {
      name: "handover.connections.ended",
      help: "Connections of processes that were replaced or stopped, by what became of them.",
      type: "counter",
      label: "how",
      read: () => snakes(upg.totals.connections),
    },
    {
      name: "handover.units.ended",
      help: "Units of processes that were replaced or stopped, by what became of them.",
      type: "counter",
      label: "how",
      read: () => snakes(upg.totals.units),
    },
    {
      name: "handover.upgrade.phase.duration",
      help: "How long the phases of upgrades took that reached their commit.",
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
  ];
}

/** `rolledBack` as `rolled_back`, as both systems have it. */
function snakes(values: Record<string, number>): Record<string, number> {
  return Object.fromEntries(
    Object.entries(values).map(([name, value]) => [name.replace(/[A-Z]/g, "_$&").toLowerCase(), value]),
  );
}

/** Without the one that the directory is read by. */
function descriptors(): number {
  return readdirSync("/dev/fd").length - 1;
}
