import { isReserved } from "../../../util/validation.js";
import { duration } from "../../output.js";
import type { Facts } from "../facts.js";
import { error, ok, warning, type Check, type Finding } from "../findings.js";

/** The workers of a supervisor, and how connections reach them. */
export const WORKER_CHECKS: readonly Check[] = [
  { name: "workers", examine: examineWorkers },
  { name: "processors", examine: examineProcessors },
  { name: "queues", examine: examineQueues },
];

function examineWorkers({ status }: Facts): readonly Finding[] | Finding | undefined {
  const workers = status?.workers;
  if (workers === undefined) return undefined;
  const found = workers.flatMap(({ index, state, lastExit = "its last exit is unknown", silence = 0 }) => {
    if (state === "failed") {
      const why = `it has died too often, and is not started again: ${lastExit}`;
      return [error(`worker ${index} has failed`, why, "mend the program, and run handover upgrade")];
    }
    if (state === "waiting") {
      const why = `its process has died, and is started again soon: ${lastExit}`;
      return [warning(`worker ${index} does not run`, why, "look at what it has printed")];
    }
    if (silence < LONG_SILENCE) return [];
    const why = "its event loop is blocked: it answers nothing, and an upgrade waits for it";
    return [
      warning(
        `worker ${index} is silent for ${duration(silence)}`,
        why,
        "find out what blocks its event loop",
      ),
    ];
  });
  return found.length > 0 ? found : ok(`${workers.length} run`);
}

/** ms. A heartbeat comes four times a second. */
const LONG_SILENCE = 3_000;

function examineProcessors({ status, processors }: Facts): Finding | undefined {
  const workers = status?.workers?.length;
  if (workers === undefined) return undefined;
  const available = `${processors} processor${processors === 1 ? "" : "s"}`;
  if (workers <= processors) return ok(`${workers} workers for ${available}`);
  return warning(
    `${workers} workers for ${available}`,
    "each takes its memory, and they take the time of the processors from each other",
    `run handover run with --workers ${processors}, or max`,
  );
}

function examineQueues({ status }: Facts): readonly Finding[] | Finding | undefined {
  if ((status?.workers?.length ?? 0) < 2) return undefined;
  const found = status!.listeners.flatMap(({ name, address, passed, unsteered }) => {
    if (isReserved(name)) return [];
    const what = `${name} (${address ?? "no socket"})`;
    if (passed === true) {
      const why =
        "the workers share its one queue, and the one that is idle first accepts: the others may get little";
      return [
        warning(
          `${what} comes from systemd`,
          why,
          "leave the socket unit out: handover run binds one for each worker",
        ),
      ];
    }
    if (unsteered !== true) return [];
    const why =
      "its hash chooses the worker, also one that has died: such a connection waits until another worker takes it";
    const fix = "use Linux 4.6 or later, or allow SO_ATTACH_REUSEPORT_CBPF in the sandbox";
    return [warning(`the kernel does not steer ${what}`, why, fix)];
  });
  return found.length > 0 ? found : ok("each worker has a queue of its own");
}
