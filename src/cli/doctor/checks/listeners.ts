import { inspectorPortOf } from "../../../process/inspector.js";
import { ownOptionsOf, wordsOfNodeOptions } from "../../../process/node-words.js";
import { isFixed, type PortRange } from "../../../sockets/unmanaged.js";
import type { Facts } from "../facts.js";
import type { ProcessFacts } from "../process-facts.js";
import { canonical, portOf, type Listener, type ListenerFacts } from "../listener-facts.js";
import { error, ok, warning, type Check, type Finding } from "../findings.js";

/** Sockets that the new process will not inherit, and sockets of other processes at the same ports. */
export const LISTENER_CHECKS: readonly Check[] = [
  { name: "listeners", examine: examineOwn },
  { name: "ports", examine: examineOthers },
];

function examineOwn(facts: Facts): readonly Finding[] | Finding | undefined {
  const { listeners, status, process, workers } = facts;
  if (listeners === undefined || status === undefined || process === undefined) return undefined;
  const known = new Set(status.listeners.map(({ address }) => address && canonical(address)));
  // A supervisor has nothing but the listeners of its workers, and its control socket.
  const found = (workers ?? [{ listeners, process }]).flatMap((one) =>
    one.listeners.own
      .filter(({ address }) => !known.has(address))
      .flatMap((listener) => judge(listener, one)),
  );
  return found.length > 0 ? found : ok("the next process inherits every listener");
}

const FIX =
  "open it with upg.listen(server, …) or upg.bind(socket, …), or pass its descriptor on with upg.fds";

type Owner = { listeners: ListenerFacts; process: ProcessFacts; index?: number };

function judge(listener: Listener, { listeners, process, index }: Owner): Finding[] {
  const { kind, address } = listener;
  const by = index === undefined ? "" : ` by worker ${index} (pid ${process.pid})`;
  const what = `${kind}:${address} was opened without handover${by}`;
  const port = portOf(address);
  // Node's inspector: a successor's gets another port.
  if (kind === "tcp" && isInspector(port, process, listeners.ephemeral)) return [];
  if (!isFixed(port, listeners.ephemeral, undefined)) {
    // The program asked for port 0; a UDP socket that has sent a datagram is bound to such a port, too.
    const why = "if the program asks for exactly this port, the new process gets EADDRINUSE";
    return kind === "udp" ? [] : [warning(what, why, FIX)];
  }
  return [
    error(
      what,
      "the old process still holds it when the new one opens it: the upgrade fails with EADDRINUSE",
      FIX,
    ),
  ];
}

function isInspector(port: number | undefined, { words, env }: ProcessFacts, ephemeral: PortRange): boolean {
  const ofEnvironment = wordsOfNodeOptions(env["NODE_OPTIONS"]);
  const inspector = inspectorPortOf([...ofEnvironment, ...ownOptionsOf(words.slice(1))]);
  return inspector === 0 ? !isFixed(port, ephemeral, undefined) : port === inspector;
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
