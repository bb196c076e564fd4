import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { busyWith, publicState, transition, type Effect, type Event, type State } from "../dist/lifecycle.js";

const events: Event[] = [
  "ready",
  "mayAccept",
  "confirmed",
  "upgrade",
  "committed",
  "acknowledged",
  "failed",
  "rehearsed",
  "staged",
  "probationOver",
  "successorDied",
  "stop",
  "peerStopping",
  "drained",
];

const states = {
  starting: { name: "starting" },
  announced: { name: "announced" },
  "ready, on probation": { name: "ready", onProbation: true },
  ready: { name: "ready", onProbation: false },
  upgrading: { name: "upgrading" },
  "replaced, not acknowledged": { name: "replaced", acknowledged: false, drained: false },
  replaced: { name: "replaced", acknowledged: true, drained: false },
  "replaced, drained": { name: "replaced", acknowledged: true, drained: true },
  "draining, upgraded": { name: "draining", outcome: "upgraded" },
  "draining, stopped": { name: "draining", outcome: "stopped" },
  "exited, upgraded": { name: "exited", outcome: "upgraded" },
  "exited, stopped": { name: "exited", outcome: "stopped" },
} as const satisfies Record<string, State>;
type StateName = keyof typeof states;

/** Everything that changes anything: `next state: effects`, or the refusal. The rest leaves all as it is. */
const table: Record<StateName, Partial<Record<Event, string>>> = {
  starting: {
    ready: "announced: sendReady",
    upgrade: "ERR_NOT_READY",
    stop: "draining, stopped: abandonStartup stopAccepting closeListeners beginDrain",
  },
  announced: {
    mayAccept: "ready, on probation: accept closeUnused acknowledge",
    upgrade: "ERR_NOT_READY",
    stop: "draining, stopped: leavePredecessor abandonStartup stopAccepting closeListeners beginDrain",
  },
  "ready, on probation": {
    confirmed: "ready: confirm",
    upgrade: "ERR_ON_PROBATION",
    stop: "draining, stopped: announceStop abandonStartup stopAccepting closeListeners beginDrain",
    peerStopping: "draining, stopped: announceStop abandonStartup stopAccepting closeListeners beginDrain",
  },
  ready: {
    upgrade: "upgrading: lendDescriptors",
    stop: "draining, stopped: killStaged abandonStartup stopAccepting closeListeners beginDrain",
  },
  upgrading: {
    upgrade: "ERR_UPGRADE_IN_PROGRESS",
    committed: "replaced, not acknowledged: stopAccepting emitUpgraded beginProbation",
    failed: "ready: reclaimDescriptors",
    rehearsed: "ready: reclaimDescriptors",
    staged: "ready: reclaimDescriptors",
    stop: "draining, stopped: killSuccessor killStaged abandonStartup stopAccepting closeListeners beginDrain",
  },
  "replaced, not acknowledged": {
    acknowledged: "replaced: beginHandover",
    upgrade: "ERR_ALREADY_UPGRADED",
    probationOver: "draining, upgraded: confirmSuccessor beginHandover",
    successorDied:
      "ready: cancelDrain acceptAgain reclaimDescriptors reclaimChannels restorePidFile reacquireRoles emitRollback",
    stop: "draining, stopped: announceStop confirmSuccessor beginHandover",
    peerStopping: "draining, stopped: announceStop confirmSuccessor beginHandover",
  },
  replaced: {
    upgrade: "ERR_ALREADY_UPGRADED",
    probationOver: "draining, upgraded: confirmSuccessor",
    successorDied:
      "ready: cancelDrain acceptAgain reclaimDescriptors reclaimChannels restorePidFile reacquireRoles emitRollback",
    stop: "draining, stopped: announceStop confirmSuccessor",
    peerStopping: "draining, stopped: announceStop confirmSuccessor",
    drained: "replaced, drained: ",
  },
  "replaced, drained": {
    upgrade: "ERR_ALREADY_UPGRADED",
    probationOver: "exited, upgraded: confirmSuccessor exit",
    successorDied:
      "ready: cancelDrain acceptAgain reclaimDescriptors reclaimChannels restorePidFile reacquireRoles emitRollback",
    stop: "exited, stopped: announceStop confirmSuccessor exit",
    peerStopping: "exited, stopped: announceStop confirmSuccessor exit",
  },
  "draining, upgraded": {
    upgrade: "ERR_ALREADY_UPGRADED",
    drained: "exited, upgraded: exit",
  },
  "draining, stopped": {
    upgrade: "ERR_STOPPED",
    drained: "exited, stopped: exit",
  },
  "exited, upgraded": { upgrade: "ERR_ALREADY_UPGRADED" },
  "exited, stopped": { upgrade: "ERR_STOPPED" },
};

const names = Object.keys(states) as StateName[];

describe.each(names)("a process that is %s", (name) => {
  test.each(events)(`a process that is ${name} has its transition for %s`, (event) => {
    expect(inWords(transition(states[name], event))).toBe(table[name][event] ?? `${name}: `);
  });
});

test.each([
  ["starting", "starting"],
  ["announced", "starting"],
  ["ready, on probation", "ready"],
  ["ready", "ready"],
  ["upgrading", "upgrading"],
  ["replaced, not acknowledged", "draining"],
  ["replaced", "draining"],
  ["replaced, drained", "draining"],
  ["draining, upgraded", "draining"],
  ["draining, stopped", "draining"],
  ["exited, upgraded", "exited"],
  ["exited, stopped", "exited"],
] as const)("a process that is %s calls itself %s", (name, state) => {
  expect(publicState(states[name])).toBe(state);
});

test.each(names)("a process that is %s begins no new work if it refuses every later upgrade", (name) => {
  const refusal = table[name].upgrade?.startsWith("ERR_") ? table[name].upgrade : undefined;
  const passing = ["ERR_NOT_READY", "ERR_ON_PROBATION"];
  expect(busyWith(states[name])).toBe(
    refusal !== undefined && passing.includes(refusal) ? undefined : refusal,
  );
});

describe("a process after any sequence of events", () => {
  const anyEvents = fc.array(fc.constantFrom(...events), { maxLength: 40 });
  /** As they come in a life that goes on for long. */
  const likelyEvents = fc
    .array(
      fc.oneof(
        fc.constant<Event[]>(["upgrade", "failed"]),
        fc.constant<Event[]>(["upgrade", "committed", "successorDied"]),
        fc.constant<Event[]>(["upgrade", "committed", "drained", "successorDied"]),
        fc.array(fc.constantFrom(...events), { maxLength: 3 }),
      ),
      { maxLength: 20 },
    )
    .map((parts): Event[] => ["ready", "mayAccept", "confirmed", ...parts.flat()]);
  const sequences = fc.oneof(anyEvents, likelyEvents);
  const always = (check: (life: Life) => void): void =>
    fc.assert(
      fc.property(sequences, (sequence) => check(live(sequence))),
      { numRuns: 2_000 },
    );

  test("a process never accepts twice without a stop between, nor stops twice", () => {
    always(({ effects }) => {
      const turns = effects.filter(isOneOf("accept", "acceptAgain", "stopAccepting"));
      const accepts = turns.map((one) => one === "accept" || one === "acceptAgain");
      // A process that is stopped before it accepts closes what it never opened.
      const stopped = accepts[0] === false;
      expect(accepts).toEqual(stopped ? [false] : accepts.map((_, n) => n % 2 === 0));
    });
  });

  test("a process has no effect after its exit", () => {
    always(({ steps }) => {
      const end = steps.findIndex(({ state }) => state.name === "exited");
      if (end < 0) return;
      for (const { state, effects } of steps.slice(end + 1)) {
        expect(state).toEqual(steps[end]!.state);
        expect(effects).toEqual([]);
      }
    });
  });

  test("a process exits at most once, exactly when its state is exited", () => {
    always(({ effects, state }) => {
      const left = effects.filter((one) => one === "exit").length;
      expect(left).toBe(state.name === "exited" ? 1 : 0);
    });
  });

  test("a process announces itself, and accepts for the first time, at most once", () => {
    always(({ effects }) => {
      const first = effects.filter((one) => one === "sendReady" || one === "accept");
      expect(["", "sendReady", "sendReady accept"]).toContain(first.join(" "));
    });
  });

  test("each successor of a process is either confirmed or rolled back, and never both", () => {
    always(({ effects, state }) => {
      const turns = effects.filter(isOneOf("beginProbation", "confirmSuccessor", "cancelDrain"));
      turns.forEach((one, n) => expect(one === "beginProbation").toBe(n % 2 === 0));
      // The last one is open only while its probation lasts.
      expect(turns.length % 2 === 1).toBe(state.name === "replaced");
    });
  });

  test("a successor is killed only before the commit", () => {
    always(({ steps, states: seen }) => {
      const killers = seen.filter((_, n) => steps[n]!.effects.includes("killSuccessor"));
      expect(killers.every(({ name }) => name === "upgrading")).toBe(true);
    });
  });

  test("a process exits as upgraded only after it has confirmed a successor", () => {
    always(({ effects, state }) => {
      const upgraded = state.name === "exited" && state.outcome === "upgraded";
      expect(!upgraded || effects.includes("confirmSuccessor")).toBe(true);
    });
  });

  test("only an upgrade is refused", () => {
    const others = events.filter((event) => event !== "upgrade");
    const steps = names.flatMap((name) => others.map((event) => transition(states[name], event)));
    expect(steps.filter(({ refused }) => refused !== undefined)).toEqual([]);
  });

  test("a process exits after a stop and the end of its drain", () => {
    fc.assert(
      fc.property(sequences, (sequence) => {
        expect(live([...sequence, "stop", "drained"]).state.name).toBe("exited");
      }),
    );
  });
});

interface Life {
  /** Where it ended. */
  state: State;
  /** Before each event that was not refused. */
  states: State[];
  steps: { state: State; effects: readonly Effect[] }[];
  effects: Effect[];
}

/** The types see to it that there are such effects: else a property would hold for want of them. */
function isOneOf(...some: Effect[]): (effect: Effect) => boolean {
  return (effect) => some.includes(effect);
}

function live(sequence: readonly Event[]): Life {
  const life: Life = { state: { name: "starting" }, states: [], steps: [], effects: [] };
  for (const event of sequence) {
    const step = transition(life.state, event);
    if (step.refused !== undefined) continue;
    life.states.push(life.state);
    life.steps.push(step);
    life.effects.push(...step.effects);
    life.state = step.state;
  }
  return life;
}

function inWords(step: ReturnType<typeof transition>): string {
  if (step.refused !== undefined) return step.refused;
  const name = names.find((one) => JSON.stringify(states[one]) === JSON.stringify(step.state));
  return `${name}: ${step.effects.join(" ")}`;
}
