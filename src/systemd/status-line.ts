import type { State } from "../lifecycle.js";

interface Progress {
  state: State;
  generation: number;
  connections: number;
  /** The PID of the successor, if there is one. */
  successor: number | undefined;
  /** Why the last upgrade failed, if it did. */
  lastFailure: string | undefined;
  /** Whether the process waits for other generations before it exits. */
  waitsForOthers: boolean;
}

/** The state of the service, for people: `systemctl status` shows it. */
export function describeStatus({
  state,
  generation,
  connections,
  successor,
  lastFailure,
  waitsForOthers,
}: Progress): string {
  const next = generation + 1;
  switch (state.name) {
    case "starting":
    case "announced":
      return `generation ${generation} initializes`;
    case "ready":
      return `${lastFailure === undefined ? "" : `${lastFailure}; `}generation ${generation} accepts, ${count(connections)}`;
    case "upgrading":
      return successor === undefined ? "upgrading" : `upgrading: pid ${successor} initializes`;
    case "replaced":
      return `generation ${next} accepts, on probation; generation ${generation} drains ${count(connections)}`;
    default:
      if (waitsForOthers) return "stopping, when other generations have drained";
      return state.outcome === "stopped" ? `stopping, ${count(connections)}` : `generation ${next} accepts`;
  }
}

function count(connections: number): string {
  return `${connections} connection${connections === 1 ? "" : "s"}`;
}
