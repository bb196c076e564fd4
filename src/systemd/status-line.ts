import type { State } from "../lifecycle.js";

interface Circumstances {
  state: State;
  generation: number;
  connections: number;
  /** The PID of the process that is to take over, once there is one. */
  successor: number | undefined;
  /** What became of the last upgrade, if it did not go well. */
  lastFailure: string | undefined;
  /** Whether it waits for other generations to end before it does. */
  waitsForOthers: boolean;
}

/** What the process that is main says of the service, for people: `systemctl status` shows it. */
export function describeStatus({
  state,
  generation,
  connections,
  successor,
  lastFailure: trouble,
  waitsForOthers: outlives,
}: Circumstances): string {
  const next = generation + 1;
  switch (state.name) {
    case "starting":
    case "announced":
      return `generation ${generation} initialises`;
    case "ready":
      return `${trouble === undefined ? "" : `${trouble}; `}generation ${generation} accepts, ${count(connections)}`;
    case "upgrading":
      return successor === undefined ? "upgrading" : `upgrading: pid ${successor} initialises`;
    case "replaced":
      return `generation ${next} accepts, on probation; generation ${generation} drains ${count(connections)}`;
    default:
      if (outlives) return "stopping, when other generations have drained";
      return state.outcome === "stopped" ? `stopping, ${count(connections)}` : `generation ${next} accepts`;
  }
}

function count(connections: number): string {
  return `${connections} connection${connections === 1 ? "" : "s"}`;
}
