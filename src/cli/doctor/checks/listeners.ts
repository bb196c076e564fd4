import type { Facts } from "../facts.js";
import { canonical, portOf, type Listener } from "../listener-facts.js";
import { error, ok, warning, type Check, type Finding } from "../findings.js";

/** Sockets that the new process will not inherit, and those that somebody else has. */
export const LISTENER_CHECKS: readonly Check[] = [
  { name: "listeners", examine: examineOwn },
  { name: "ports", examine: examineOthers },
];

function examineOwn(facts: Facts): readonly Finding[] | Finding | undefined {
  const { listeners, status } = facts;
  if (listeners === undefined || status === undefined) return undefined;
  const known = new Set(status.listeners.map(({ address }) => address && canonical(address)));
  const unknown = listeners.own.filter(({ address }) => !known.has(address));
  const found = unknown.flatMap((one) => judge(one, facts));
  return found.length > 0 ? found : ok("everything that it listens on is handed on");
}

const FIX =
  "listen by upg.listen(server, …), bind by upg.bind(socket, …), or hand the descriptor on by upg.fds";

function judge(listener: Listener, { listeners, process }: Facts): Finding[] {
  const { kind, address } = listener;
  const what = `${kind}:${address} was opened outside of handover`;
  const [low, high] = listeners!.ephemeral;
  const port = portOf(address);
  if (port !== undefined && port >= low && port <= high) {
    // One that was asked for as 0; of UDP, every socket that has sent something is bound to one.
    const why = "if the program asks for this very port, the new process gets EADDRINUSE";
    return kind === "udp" ? [] : [warning(what, why, FIX)];
  }
  if (kind === "tcp" && process!.words.some((word) => word.startsWith("--inspect"))) {
    const why = "the inspector of the new process does not start, as the old one has the port";
    return [
      warning(
        what,
        why,
        "start without --inspect, or with --inspect=0; other listeners belong to upg.listen()",
      ),
    ];
  }
  return [
    error(
      what,
      "the old process has it still when the new one wants it: EADDRINUSE, and the upgrade fails",
      FIX,
    ),
  ];
}

function examineOthers({ listeners }: Facts): readonly Finding[] | undefined {
  return listeners?.others.map(({ address, pid }) =>
    warning(
      `${pid === undefined ? "another process" : `process ${pid}`} listens on tcp:${address}, too`,
      "it gets connections that are meant for this service, also after an upgrade",
      pid === undefined
        ? "find it as root, and end it"
        : `see what it is (ps -p ${pid}), and end it or give it another port`,
    ),
  );
}
