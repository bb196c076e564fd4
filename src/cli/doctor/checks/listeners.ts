import { isFixed } from "../../../sockets/unmanaged.js";
import type { Facts } from "../facts.js";
import { canonical, portOf, type Listener } from "../listener-facts.js";
import { error, ok, warning, type Check, type Finding } from "../findings.js";

/** Sockets that the new process will not inherit, and sockets of other processes at the same ports. */
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
  return found.length > 0 ? found : ok("the next process inherits every listener");
}

const FIX =
  "open it with upg.listen(server, …) or upg.bind(socket, …), or pass its descriptor on with upg.fds";

function judge(listener: Listener, { listeners, process }: Facts): Finding[] {
  const { kind, address } = listener;
  const what = `${kind}:${address} was opened without handover`;
  const port = portOf(address);
  if (!isFixed(port, listeners!.ephemeral, undefined)) {
    // The program asked for port 0; a UDP socket that has sent a datagram is bound to such a port, too.
    const why = "if the program asks for exactly this port, the new process gets EADDRINUSE";
    return kind === "udp" ? [] : [warning(what, why, FIX)];
  }
  if (kind === "tcp" && process!.words.some((word) => word.startsWith("--inspect"))) {
    const why = "the inspector of the new process does not start, because the old one holds the port";
    return [
      warning(
        what,
        why,
        "start without --inspect, or with --inspect=0; open other listeners with upg.listen()",
      ),
    ];
  }
  return [
    error(
      what,
      "the old process still holds it when the new one opens it: the upgrade fails with EADDRINUSE",
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
        ? "run this as root to see which process it is, and stop it"
        : `look at it (ps -p ${pid}), and stop it or give it another port`,
    ),
  );
}
