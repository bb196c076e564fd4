import { describe, expect, test } from "vitest";
import { StateMachine } from "../../dist/core/state-machine.js";
import type { Effect, Event, State } from "../../dist/lifecycle.js";

const EFFECTS: Effect[] = [
  "sendReady",
  "accept",
  "closeUnused",
  "acknowledge",
  "confirm",
  "lendDescriptors",
  "reclaimDescriptors",
  "killSuccessor",
  "killStaged",
  "stopAccepting",
  "emitUpgraded",
  "beginHandover",
  "beginProbation",
  "confirmSuccessor",
  "cancelDrain",
  "acceptAgain",
  "reclaimChannels",
  "restorePidFile",
  "reacquireRoles",
  "emitRollback",
  "announceStop",
  "leavePredecessor",
  "abandonStartup",
  "closeListeners",
  "beginDrain",
  "exit",
];

const start: Event[] = ["ready", "mayAccept", "confirmed"];

/** Lives that run every effect between them. */
const LIVES: Event[][] = [
  [...start, "upgrade", "committed", "acknowledged", "drained", "probationOver"],
  [...start, "upgrade", "committed", "acknowledged", "successorDied", "stop", "drained"],
  [...start, "upgrade", "stop", "drained"],
  ["ready", "stop", "drained"],
  ["ready", "mayAccept", "peerStopping", "drained"],
];

interface Run {
  machine: StateMachine;
  /** Effects and transitions, in their order. */
  log: string[];
  errors: string[];
}

function machineOf(act: (effect: Effect, machine: StateMachine) => void): Run {
  const log: string[] = [];
  const errors: string[] = [];
  const run = (effect: Effect) => (): void => {
    log.push(effect);
    act(effect, machine);
  };
  const effects = Object.fromEntries(EFFECTS.map((effect) => [effect, run(effect)])) as Record<
    Effect,
    () => void
  >;
  const machine: StateMachine = new StateMachine(effects, {
    onTransition: (event, before, after) => log.push(`${event}: ${before.name} → ${after.name}`),
    onError: (step, error) => errors.push(`${step}: ${(error as Error).message}`),
  });
  return { machine, log, errors };
}

function live(
  events: readonly Event[],
  act: (effect: Effect, machine: StateMachine) => void = () => {},
): Run {
  const run = machineOf(act);
  for (const event of events) run.machine.dispatch(event);
  return run;
}

/** The event `ready` has no meaning in any state that a running effect can see. */
function isDisturbance(line: string): boolean {
  return /^ready: (?!starting)/.test(line);
}

test("the event sequences of this test run every effect of the table", () => {
  const run = new Set(LIVES.flatMap((life) => live(life).log));
  expect(EFFECTS.filter((effect) => !run.has(effect))).toEqual([]);
});

describe.each(EFFECTS)("the effect %s", (effect) => {
  const lives = LIVES.filter((life) => live(life).log.includes(effect));

  test(`the effect ${effect} may dispatch an event, which waits until all effects of the running event are done`, () => {
    for (const life of lives) {
      const undisturbed = live(life);
      let isFirst = true;
      const disturbed = live(life, (one, machine) => {
        if (one !== effect || !isFirst) return;
        isFirst = false;
        machine.dispatch("ready");
      });
      const without = disturbed.log.filter((line) => !isDisturbance(line));
      expect(without).toEqual(undisturbed.log);
      const at = disturbed.log.findIndex(isDisturbance);
      const next = undisturbed.log.indexOf(effect) + 1;
      const rest = undisturbed.log.slice(next).findIndex((line) => line.includes("→"));
      expect(at).toBe(rest < 0 ? undisturbed.log.length : next + rest);
    }
  });

  test(`the effect ${effect} may throw, and all other effects and events run as if it had not`, () => {
    for (const life of lives) {
      const broken = live(life, (one) => {
        if (one === effect) throw new Error("broken");
      });
      const whole = live(life);
      expect(broken.log).toEqual(whole.log);
      expect(broken.machine.state).toEqual(whole.machine.state);
      expect(broken.errors).toEqual(
        whole.log.filter((line) => line === effect).map(() => `${effect}: broken`),
      );
    }
  });
});

test("an event that an effect dispatches sees the state after the transition", () => {
  const seen: State["name"][] = [];
  live([...start, "upgrade", "committed"], (effect, machine) => {
    if (effect === "stopAccepting") machine.dispatch("drained");
    if (effect === "beginProbation") seen.push(machine.state.name);
  });
  expect(seen).toEqual(["replaced"]);
});

test("a request that the table refuses is rejected, also when it waits for its turn", async () => {
  const answers: Promise<unknown>[] = [];
  const { machine } = live(start);
  expect(machine.request("upgrade")).toBeUndefined();
  expect(() => machine.request("upgrade")).toThrow(
    expect.objectContaining({ code: "ERR_UPGRADE_IN_PROGRESS" }),
  );
  live([...start, "upgrade", "committed"], (effect, other) => {
    if (effect === "beginProbation") answers.push(other.request("upgrade")!.catch((error: unknown) => error));
  });
  expect(await Promise.all(answers)).toMatchObject([{ code: "ERR_ALREADY_UPGRADED" }]);
});

test("a listener that throws does not stop the machine: effects run, and later events too", () => {
  const log: string[] = [];
  const errors: string[] = [];
  const effects = Object.fromEntries(EFFECTS.map((effect) => [effect, () => void log.push(effect)]));
  const machine = new StateMachine(effects as Record<Effect, () => void>, {
    onTransition: () => {
      throw new Error("broken");
    },
    onError: (step, error) => errors.push(`${step}: ${(error as Error).message}`),
  });
  for (const event of start) machine.dispatch(event);
  expect(machine.state).toEqual({ name: "ready", onProbation: false });
  expect(log).toEqual(["sendReady", "accept", "closeUnused", "acknowledge", "confirm"]);
  expect(errors).toEqual(["onTransition: broken", "onTransition: broken", "onTransition: broken"]);
});
