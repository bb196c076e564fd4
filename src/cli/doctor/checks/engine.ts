import { duration } from "../../output.js";
import type { Facts } from "../facts.js";
import { error, ok, warning, type Check, type Finding } from "../findings.js";

/** The engine over which the hosts of a service agree. Its process looks at it: only it knows how to connect. */
export const ENGINE_CHECKS: readonly Check[] = [
  { name: "engine", examine: examineEngine },
  { name: "schema", examine: examineSchema },
  { name: "engine clock", examine: examineClock },
  { name: "latency", examine: examineLatency },
];

type Report = Facts["engine"];

function examineEngine({ engine, status }: Facts): Finding | undefined {
  if (engine === undefined) return undefined;
  if (engine.unreachable === undefined) {
    const problem = problemOf(engine, "engine");
    return problem ?? ok(`${engine.server ?? engine.engine} answers`);
  }
  const left = status?.hosts?.remaining ?? 0;
  const lease =
    left > 0
      ? `the lease ends in ${duration(left)}, and with it all that is global in this process`
      : "without it nothing that is global runs";
  return error(
    `${engine.engine} cannot be used: ${engine.unreachable}`,
    `${lease}; no unit moves to another host, and the next process does not start`,
    "see that the engine runs, and that this host reaches it with these credentials",
  );
}

function examineSchema({ engine }: Facts): Finding | undefined {
  if (engine === undefined || engine.unreachable !== undefined) return undefined;
  return problemOf(engine, "schema") ?? (engine.schema === undefined ? undefined : ok(engine.schema));
}

function problemOf({ problems = [] }: NonNullable<Report>, check: string): Finding | undefined {
  const found = problems.find((one) => one.check === check);
  return found === undefined ? undefined : error(found.what, found.why, found.fix);
}

function examineClock({ engine }: Facts): Finding | undefined {
  const { ahead, slowest = 0 } = engine ?? {};
  if (ahead === undefined) return undefined;
  // When it was read is known to half an answer.
  if (Math.abs(ahead) <= LARGEST_DIFFERENCE + slowest / 2) return ok("its clock agrees with this host's");
  return warning(
    `its clock is ${duration(Math.abs(ahead))} ${ahead > 0 ? "ahead of" : "behind"} this host's`,
    "leases do not depend on clocks, but fences begin with the time: one of them jumps, or an engine that takes over repeats it",
    "let NTP set the clocks of the engine and of this host",
  );
}

/** ms */
const LARGEST_DIFFERENCE = 1_000;

function examineLatency({ engine }: Facts): Finding | undefined {
  const { slowest, lease = 0 } = engine ?? {};
  if (slowest === undefined) return undefined;
  const what = `an answer took up to ${duration(slowest)}, with a lease of ${duration(lease)}`;
  if (slowest <= lease / LEAST_ANSWERS) return ok(what);
  const why =
    "a renewal needs two answers within a third of the lease: if they are late, the lease ends, and units and roles with it";
  const fix = "bring the engine nearer, find out what makes it slow, or set a longer lease on all hosts";
  return (slowest > lease / FEWEST_ANSWERS ? error : warning)(what, why, fix);
}

/** Answers for which a lease should last; and those for which it has to. A renewal is two, three times in a lease. */
const LEAST_ANSWERS = 60;
const FEWEST_ANSWERS = 12;
