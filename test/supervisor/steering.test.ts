import { expect, test } from "vitest";
import { Steering, type Loan, type SteeringPlan } from "../../dist/supervisor/steering.js";

const none = { unlend: [], lend: [] };

test("connections are steered to the positions of the members whose worker accepts", () => {
  const steering = groupOf(0, 1, 2, 3);
  for (const index of [3, 1]) steering.setAccepting(index, true);
  expect(steering.plan().steer).toEqual([1, 3]);
});

test("a group without a worker that accepts is left to the kernel's hash, and no member is lent", () => {
  const steering = groupOf(0, 1);
  expect(steering.plan()).toEqual(none);
});

test("the last member takes the place of one that is closed", () => {
  const steering = groupOf(0, 1, 2, 3);
  for (const index of [0, 2, 3]) steering.setAccepting(index, true);
  steering.remove(0);
  expect(steering.plan().steer).toEqual([0, 2]);
});

test("the member of a dead worker is lent to the one with the fewest loans, and returned to its own", () => {
  const steering = groupOf(0, 1, 2);
  for (const index of [0, 1, 2]) steering.setAccepting(index, true);
  expect(steering.plan()).toEqual({ steer: [0, 1, 2], ...none });
  steering.setAccepting(1, false);
  expect(steering.plan()).toEqual({ steer: [0, 2], unlend: [], lend: [{ member: 1, to: 0 }] });
  steering.setAccepting(0, false);
  const moved = { unlend: [{ member: 1, to: 0 }], lend: expect.arrayContaining([{ member: 1, to: 2 }]) };
  expect(steering.plan()).toEqual({ steer: [2], ...moved });
  steering.setAccepting(1, true);
  const evened = { unlend: [{ member: 1, to: 2 }], lend: [] };
  expect(steering.plan()).toEqual({ steer: [1, 2], ...evened });
});

test("a loan that can stay does not move", () => {
  const steering = groupOf(0, 1, 2, 3);
  for (const index of [2, 3]) steering.setAccepting(index, true);
  expect(steering.plan().lend).toEqual([
    { member: 0, to: 2 },
    { member: 1, to: 3 },
  ]);
  steering.add(4);
  expect(steering.plan()).toEqual({ steer: [2, 3], unlend: [], lend: [{ member: 4, to: 2 }] });
});

test("a worker that has more than its share of the loans gives one to a worker that accepts again", () => {
  const steering = groupOf(0, 1, 2, 3);
  steering.setAccepting(0, true);
  expect(steering.plan().lend.map(({ to }) => to)).toEqual([0, 0, 0]);
  steering.setAccepting(1, true);
  const ended = [1, 3].map((member) => ({ member, to: 0 }));
  const plan = steering.plan();
  expect(plan.unlend).toEqual(expect.arrayContaining(ended));
  expect(plan).toMatchObject({ steer: [0, 1], lend: [{ member: 3, to: 1 }] });
});

test("a worker that dies and is started again before the next plan is lent everything anew", () => {
  const steering = groupOf(0, 1);
  steering.setAccepting(0, true);
  steering.plan();
  for (const isAccepting of [false, true]) steering.setAccepting(0, isAccepting);
  const loan = { member: 1, to: 0 };
  expect(steering.plan()).toEqual({ steer: [0], unlend: [loan], lend: [loan] });
});

test("a member that is closed and opened again before the next plan is lent anew", () => {
  const steering = groupOf(0, 1);
  steering.setAccepting(0, true);
  steering.plan();
  steering.remove(1);
  steering.add(1);
  const loan = { member: 1, to: 0 };
  expect(steering.plan()).toEqual({ steer: [0], unlend: [loan], lend: [loan] });
});

test("a worker whose listener is not in the group is lent nothing", () => {
  const steering = groupOf(0);
  steering.setAccepting(1, true);
  expect(steering.plan()).toEqual(none);
});

test("after any changes the plans steer to those that accept, and lend each other member once and evenly", () => {
  const kinds = ["add", "remove", "begin", "end"] as const;
  const single = [0, 1, 2].flatMap((index) => kinds.map((kind) => ({ kind, index })));
  // Some changes share one plan with the next.
  const changes = single.flatMap((change) => [true, false].map((isPlanned) => ({ ...change, isPlanned })));
  const seen = new Set([follow([])]);
  // The list grows while it is visited, up to every state that changes can lead to.
  const paths: Change[][] = [[]];
  for (const path of paths) {
    for (const change of changes) {
      const state = follow([...path, change]);
      if (seen.has(state)) continue;
      seen.add(state);
      paths.push([...path, change]);
    }
  }
  expect(seen.size).toBe(1_729);
});

interface Change {
  kind: "add" | "remove" | "begin" | "end";
  index: number;
  isPlanned: boolean;
}

/** Runs the changes against a kernel of its own, checks a plan against it, and returns the state that it has led to. */
function follow(path: readonly Change[]): string {
  const steering = new Steering();
  const kernel: number[] = [];
  const accepting = new Set<number>();
  const loans = new Map<number, number>();
  for (const { kind, index, isPlanned } of path) {
    if (kind === "add") {
      steering.add(index);
      if (!kernel.includes(index)) kernel.push(index);
    } else if (kind === "remove") {
      steering.remove(index);
      accepting.delete(index);
      if (kernel.includes(index)) {
        const last = kernel.pop()!;
        if (last !== index) kernel[kernel.indexOf(index)] = last;
      }
    } else {
      steering.setAccepting(index, kind === "begin");
      if (kind === "begin" && kernel.includes(index)) accepting.add(index);
      else accepting.delete(index);
    }
    if (isPlanned) apply(loans, steering.plan());
  }
  const state = JSON.stringify([kernel, [...accepting], [...loans]]);
  const plan = steering.plan();
  apply(loans, plan);
  const steered = plan.steer?.map((position) => kernel[position]);
  const expected = kernel.filter((index) => accepting.has(index));
  if (!same(steered ?? [], expected)) throw fault("steers wrongly", path, plan);
  if (plan.steer?.length === 0) throw fault("steers to none", path, plan);
  const needy = accepting.size === 0 ? [] : kernel.filter((index) => !accepting.has(index));
  if (!same([...loans.keys()], needy)) throw fault("lends other members", path, plan);
  const share = Math.ceil(needy.length / accepting.size);
  for (const to of loans.values()) {
    if (!accepting.has(to)) throw fault("lends to a worker that does not accept", path, plan);
    const load = [...loans.values()].filter((one) => one === to).length;
    if (load > share) throw fault("lends unevenly", path, plan);
  }
  return state;
}

function groupOf(...indexes: number[]): Steering {
  const steering = new Steering();
  for (const index of indexes) steering.add(index);
  return steering;
}

function apply(loans: Map<number, number>, plan: SteeringPlan): void {
  for (const loan of plan.unlend) {
    if (loans.get(loan.member) !== loan.to) throw fault("ends a loan that is none", [], plan);
    loans.delete(loan.member);
  }
  for (const loan of plan.lend) {
    if (loans.has(loan.member)) throw fault("lends a member twice", [], plan);
    loans.set(loan.member, loan.to);
  }
}

function same(some: readonly (number | undefined)[], others: readonly number[]): boolean {
  return some.length === others.length && others.every((one) => some.includes(one));
}

function fault(what: string, path: readonly { kind: string; index: number }[], plan: SteeringPlan): Error {
  const steps = path.map(({ kind, index }) => `${kind} ${index}`).join(", ");
  return new Error(`${what} after ${steps}: -${inWords(plan.unlend)} +${inWords(plan.lend)}`);
}

function inWords(loans: readonly Loan[]): string {
  return loans.map(({ member, to }) => `${member}>${to}`).join(" ");
}
