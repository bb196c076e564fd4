import type { Level } from "../cgroup.js";
import type { Facts } from "../facts.js";
import { error, ok, warning, type Check, type Finding } from "../findings.js";

/** Whether the machine and its limits allow a second process. */
export const CAPACITY_CHECKS: readonly Check[] = [
  { name: "descriptors", examine: examineDescriptors },
  { name: "memory", examine: examineMemory },
  { name: "tasks", examine: examineTasks },
];

/** Descriptors that the start of a process needs for a short time: a channel, pipes. */
const SPARE_DESCRIPTORS = 16;

/** With a lower limit, clients may be refused before an upgrade is. */
const USUAL_DESCRIPTORS = 4_096;

function examineDescriptors({ process, status, descriptorLimit }: Facts): Finding | undefined {
  if (process === undefined) {
    if (descriptorLimit === undefined) return undefined;
    if (descriptorLimit >= USUAL_DESCRIPTORS) return ok(`ulimit -n ${descriptorLimit}`);
    return warning(
      `ulimit -n ${descriptorLimit}`,
      "each connection takes a descriptor, and during an upgrade both processes hold some of them",
      "raise the limit: LimitNOFILE= in a unit, ulimit -n in a shell",
    );
  }
  const { open, limit } = process.descriptors;
  // A duplicate of each listener is kept until the end of probation.
  const extra = 2 * (status?.listeners.length ?? 1) + SPARE_DESCRIPTORS;
  const what = `${open} of ${limit} descriptors are open`;
  const fix = `raise the limit to ${2 * (2 * open + extra)} or more: LimitNOFILE= in a unit, ulimit -n in a shell; then restart`;
  if (limit < open + extra) {
    return error(
      what,
      `an upgrade needs about ${extra} more: a channel, and duplicates of the listeners`,
      fix,
    );
  }
  if (limit < 2 * open + extra) {
    return warning(
      what,
      "a connection that moves takes a descriptor in both processes: some would stay in the old one",
      fix,
    );
  }
  return ok(what);
}

/** Memory that Node takes before it runs a program. */
const LEAST_MEMORY = 48 * 1024 * 1024;

function examineMemory({ process, workers, capacity }: Facts): readonly Finding[] | Finding {
  const needed =
    workers === undefined
      ? (process?.resident ?? LEAST_MEMORY)
      : workers.reduce((sum, one) => sum + one.process.resident, 0);
  const who = workers === undefined ? "process" : "set of workers";
  const found: Finding[] = [];
  const { memory, throttle, available } = capacity;
  if (memory !== undefined) found.push(...judge(left(memory), needed, describe(memory), who));
  if (throttle !== undefined && left(throttle) < needed) {
    const why = `above it the kernel slows the group down, and a second ${who} may take as much as this one: ${mebibytes(needed)}`;
    found.push(warning(describe(throttle), why, "raise it: MemoryHigh= in a unit"));
  }
  if (available !== undefined)
    found.push(
      ...judge(available, needed, `the machine has ${mebibytes(available)} of memory available`, who),
    );
  if (found.length > 0) return found;
  return ok(
    process === undefined
      ? "there is memory for a process"
      : `there is memory for a second ${who} of ${mebibytes(needed)}`,
  );
}

function judge(available: number, needed: number, what: string, who: string): Finding[] {
  const fix =
    "raise the limit (MemoryMax= in a unit, or that of the container), or reduce the memory of the program";
  if (available < LEAST_MEMORY)
    return [error(what, `a second process cannot start: it needs at least ${mebibytes(LEAST_MEMORY)}`, fix)];
  if (available >= needed) return [];
  return [warning(what, `a second ${who} may take as much as this one: ${mebibytes(needed)}`, fix)];
}

function left({ limit, used }: Level): number {
  return Math.max(0, limit - used);
}

function describe(level: Level): string {
  return `${mebibytes(left(level))} of ${mebibytes(level.limit)} are left (${level.file})`;
}

function mebibytes(bytes: number): string {
  return `${Math.round(bytes / 2 ** 20)} MiB`;
}

/** Threads that Node starts. */
const LEAST_TASKS = 12;

function examineTasks({ capacity: { tasks } }: Facts): Finding | undefined {
  if (tasks === undefined) return undefined;
  const what = `${left(tasks)} of ${tasks.limit} tasks are left (${tasks.file})`;
  const fix = "raise the limit: TasksMax= in a unit, or that of the container";
  const why = `each thread is a task, and Node starts about ${LEAST_TASKS} threads`;
  if (left(tasks) < LEAST_TASKS) return error(what, why, fix);
  return left(tasks) < 2 * LEAST_TASKS ? warning(what, why, fix) : ok(what);
}
