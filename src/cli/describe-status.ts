import type { Status, WorkerStatus } from "../control/protocol.js";
import type { UpgradeRecord } from "../events.js";
import { isReserved } from "../util/validation.js";
import { describeWorkers, describeTotals } from "./describe-workers.js";
import { count, duration, grouped, mebibytes } from "./output.js";

/** The status for people: rows of a name and lines. Of a supervisor, what has no meaning is left out. */
export function describeStatus(status: Status, control: string): [string, string[]][] {
  const { workers } = status;
  const rows = describeProcess(status, control);
  if (workers === undefined) return rows;
  const [pid, ...others] = rows.filter(([name, lines]) => lines.length > 0 || name === "listeners");
  return [
    pid!,
    ...(status.name === undefined ? [] : [["name", [status.name]] as [string, string[]]]),
    ...others,
    ...(workers.every(({ hosts }) => hosts === undefined)
      ? []
      : [["hosts", workers.flatMap(describeHostsOf)] as [string, string[]]]),
    ["totals", describeTotals(status)],
    ["workers", describeWorkers(workers)],
  ];
}

function describeProcess(status: Status, control: string): [string, string[]][] {
  return [
    ["pid", [String(status.pid)]],
    ["generation", [String(status.generation)]],
    ["state", [status.state]],
    ["uptime", [duration(status.uptime * 1_000)]],
    ["version", [`handover ${status.version}, Node ${status.node}`]],
    ["control", [control]],
    ["listeners", ownListeners(status).map(describeListener)],
    ["connections", [String(status.connections)]],
    ["memory", [status.memory === undefined ? "unknown" : mebibytes(status.memory)]],
    ["predecessors", status.predecessors.map(describePredecessor)],
    ["staged", status.staged === undefined ? [] : [describeStaged(status.staged)]],
    ...(status.hosts === undefined ? [] : [["hosts", describeHosts(status.hosts)] as [string, string[]]]),
    ["upgrades", (status.upgrades ?? []).map(describeUpgrade)],
  ];
}

function describeSeat({ engine, service, seat, lease, remaining, offered, parked }: Seat): string {
  const left = lease === "held" ? `held, ${duration(remaining)} left` : lease;
  return `${engine} "${service}", seat ${seat}, lease ${left}, ${offered} offered, ${parked} parked`;
}

type Seat = Omit<NonNullable<Status["hosts"]>, "peers" | "morePeers">;

function describeHostsOf({ index, hosts }: WorkerStatus): string[] {
  if (hosts === undefined) return [];
  return [`worker ${index}: ${describeSeat(hosts)}, ${count(hosts.peers, "peer")}`];
}

function describeHosts({ peers, morePeers, ...seat }: NonNullable<Status["hosts"]>): string[] {
  return [
    describeSeat(seat),
    ...peers.map(({ pid, host = "?", address = "no address", release, draining }) => {
      const of = release === undefined ? "" : `, release ${release}`;
      return `${address} (pid ${pid} on ${host}${of})${draining === true ? ", stops" : ""}`;
    }),
    ...(morePeers === undefined ? [] : [`and ${count(morePeers, "more peer")}`]),
  ];
}

function describeStaged({ pid, generation, workers, expires }: NonNullable<Status["staged"]>): string {
  const what = workers === undefined ? `pid ${pid}` : count(workers, "worker");
  return `${what}, generation ${generation}: ${duration(Math.max(0, expires - Date.now()))} left`;
}

/** The listeners of the program: without the control socket. */
export function ownListeners({ listeners }: Status): Status["listeners"] {
  return listeners.filter(({ name }) => !isReserved(name));
}

/** A name often contains the address. */
export function describeListener({ name, address }: Status["listeners"][number]): string {
  return address === undefined || name.endsWith(`:${address}`) ? name : `${name} (${address})`;
}

function describePredecessor({
  pid,
  generation,
  connections,
  moved,
  remaining,
  drained,
}: Status["predecessors"][number]): string {
  const who = `pid ${pid}, generation ${generation}`;
  if (connections === undefined) return `${who}: no report`;
  const left = moved === undefined ? "" : `${grouped(moved)} moved, `;
  if (drained === true) return `${who}: has drained, ${left}waits until the upgrade is confirmed`;
  // A worker reports to its supervisor only how many there are.
  const time = remaining === undefined ? "" : `, ${duration(remaining)} left`;
  return `${who}: drains, ${left}${count(connections, "connection")} left${time}`;
}

function describeUpgrade({ at, from, to, outcome, timings, code, reason }: UpgradeRecord): string {
  const when = new Date(at).toISOString().replace("T", " ").slice(0, 19);
  const took = timings && `${duration(timings.spawn + timings.ready + timings.commit)} to the commit`;
  const why = code && `${code}: ${reason}`;
  const what = [when, `generation ${from} → ${to}`, (NAMES[outcome] ?? outcome).padEnd(12), took, why];
  return what.filter((part) => part !== undefined).join("  ");
}

const NAMES: Record<string, string> = { rolledBack: "rolled back" };
