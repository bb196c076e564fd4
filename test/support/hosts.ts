import { hostname } from "node:os";
import { onTestFinished, vi } from "vitest";
import type { UnitOwner } from "../../dist/errors.js";
import { FencingTokens } from "../../dist/exchange/fencing.js";
import type { HostExchange, StateHosts } from "../../dist/exchange/hosts.js";
import { ProcessState } from "../../dist/state/process-state.js";

/** One process of a service on several hosts, without the rest of it. */
export interface Host {
  readonly hosts: StateHosts;
  readonly fences: FencingTokens;
  readonly failures: Error[];
  name(): UnitOwner;
}

let pids = 1_000;

/**
 * Lets a process take part until the test ends.
 *
 * @param predecessors resolves when none is left that could give its seat; undefined for a process without one
 */
export function joinHosts(exchange: HostExchange, release?: string, predecessors?: Promise<unknown>): Host {
  const self = { generation: 0, pid: pids++ };
  const address = `10.0.0.${self.pid % 256}:80`;
  const fences = new FencingTokens();
  const failures: Error[] = [];
  const hosts = exchange.join({
    self,
    address,
    release,
    fences,
    onFailure: (error) => failures.push(error),
  }).state!;
  onTestFinished(async () => hosts.leave());
  void hosts.check().then(
    () => hosts.enter(predecessors),
    () => {},
  );
  const name = (): UnitOwner => ({
    ...self,
    seat: hosts.status().seat,
    host: hostname(),
    address,
    ...(release === undefined ? {} : { release }),
  });
  return { hosts, fences, failures, name };
}

/** The state of such a process, without a predecessor. */
export function stateOf(host: Host): ProcessState {
  return new ProcessState(host.fences, {
    self: host.name(),
    directory: undefined,
    hosts: host.hosts,
    predecessors: () => [],
    isLeaving: () => false,
    assertMayRun: () => {},
  });
}

/** Waits until a process knows so many others that take rooms. */
export async function untilPeers({ hosts }: Host, count: number): Promise<void> {
  await vi.waitUntil(() => hosts.exchange.peers("unit", "room").length === count, 30_000);
}

/** Takes rooms. Returns those that it runs. */
export function takeRooms({ hosts }: Host): Set<string> {
  const running = new Set<string>();
  hosts.exchange.subscribe("unit", "room", ({ id }, { signal }) => {
    running.add(id);
    signal.addEventListener("abort", () => running.delete(id));
    return "taken";
  });
  return running;
}
