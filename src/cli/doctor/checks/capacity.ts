import type { Level } from "../cgroup.js";
import type { Facts } from "../facts.js";
import { error, ok, warning, type Check, type Finding } from "../findings.js";

/** Whether there is room for a second process. */
export const CAPACITY_CHECKS: readonly Check[] = [
  { name: "descriptors", examine: examineDescriptors },
  { name: "memory", examine: examineMemory },
  { name: "tasks", examine: examineTasks },
];

/** What starting a process takes for a moment: a channel, pipes. */
const SPARE_DESCRIPTORS = 16;

/** With fewer, systems have begun to refuse clients before upgrades. */
const USUAL_DESCRIPTORS = 4_096;

function examineDescriptors({ process, status, descriptorLimit }: Facts): Finding | undefined {
  if (process === undefined) {
    if (descriptorLimit === undefined) return undefined;
    if (descriptorLimit >= USUAL_DESCRIPTORS) return ok(`ulimit -n ${descriptorLimit}`);
    return warning(
      `ulimit -n ${descriptorLimit}`,
      "each connection is a descriptor, and during an upgrade some are held by both processes",
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
      "connections that move are counted twice until they have arrived: some would stay in the old process",
      fix,
    );
  }
  return ok(what);
}

/** What Node itself takes before it has run a program. */
const LEAST_MEMORY = 48 * 1024 * 1024;

function examineMemory({ process, capacity }: Facts): readonly Finding[] | Finding {
  const needed = process?.resident ?? LEAST_MEMORY;
  const found: Finding[] = [];
  const { memory, throttle, available } = capacity;
  if (memory !== undefined) found.push(...judge(left(memory), needed, describe(memory)));
  if (throttle !== undefined && left(throttle) < needed) {
    const why = `the kernel slows everything down above it, and a second process may take as much as this one: ${mebibytes(needed)}`;
    found.push(warning(describe(throttle), why, "raise it: MemoryHigh= in a unit"));
  }
  if (available !== undefined)
    found.push(...judge(available, needed, `the machine has ${mebibytes(available)} to give`));
  if (found.length > 0) return found;
  return ok(
    process === undefined
      ? "there is memory for a process"
      : `there is memory for a second process of ${mebibytes(needed)}`,
  );
}

function judge(available: number, needed: number, what: string): Finding[] {
  const fix = "raise the limit (MemoryMax= in a unit, the container's), or let the program hold less";
  if (available < LEAST_MEMORY)
    return [
      error(what, `a second process does not even start: it takes ${mebibytes(LEAST_MEMORY)} or more`, fix),
    ];
  if (available >= needed) return [];
  return [warning(what, `a second process may take as much as this one: ${mebibytes(needed)}`, fix)];
}

function left({ limit, used }: Level): number {
  return Math.max(0, limit - used);
}

function describe(level: Level): string {
  return `${mebibytes(left(level))} are left of the ${mebibytes(level.limit)} of ${level.file}`;
}

function mebibytes(bytes: number): string {
  return `${Math.round(bytes / 2 ** 20)} MiB`;
}

/** Threads that Node starts with. */
const LEAST_TASKS = 12;

function examineTasks({ capacity: { tasks } }: Facts): Finding | undefined {
  if (tasks === undefined) return undefined;
  const what = `${left(tasks)} are left of the ${tasks.limit} tasks of ${tasks.file}`;
  const fix = "raise the limit: TasksMax= in a unit, the container's";
  const why = `a thread is a task, and Node starts with about ${LEAST_TASKS} of them`;
  if (left(tasks) < LEAST_TASKS) return error(what, why, fix);
  return left(tasks) < 2 * LEAST_TASKS ? warning(what, why, fix) : ok(what);
}
