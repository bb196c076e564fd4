import { setImmediate as turn } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { DrivenProcess, successorOf, until } from "../support/fake-env.js";

const INTERVAL = 250;

/** A process whose successor has heartbeats, up to its commit. */
async function commit({ probation = 3_000, inspected = false, upgradeTimeout = 60_000 } = {}): Promise<{
  driven: DrivenProcess;
  settled: Promise<string>;
}> {
  const driven = new DrivenProcess({ probation, upgradeTimeout });
  await driven.generation.ready();
  const { upgrade } = await driven.startUpgrade();
  driven.successor.readyWithHeartbeat(inspected);
  const { settled } = await upgrade;
  await driven.successor.receives("commit");
  return { driven, settled };
}

/** Lets time pass as the event loop sees it, one tick after the other. */
async function pass(driven: DrivenProcess, ms: number, beats = false): Promise<void> {
  for (let passed = 0; passed < ms; passed += INTERVAL) {
    if (beats) {
      driven.successor.send({ type: "heartbeat" });
      const { length } = driven.successors;
      await until(() => driven.successors.length === length, "the message");
    }
    driven.clock.advance(INTERVAL);
  }
}

async function acknowledge(driven: DrivenProcess): Promise<void> {
  driven.successor.send({ type: "commit-ack" });
  await until(() => driven.events.includes("draining"), "the drain");
}

describe("a successor with heartbeats", () => {
  test("a successor is offered nothing before it has acknowledged the commit", async () => {
    const { driven } = await commit();
    await pass(driven, 1_000);
    expect(driven.events).not.toContain("draining");
    expect(driven.generation.state).toMatchObject({ name: "replaced", acknowledged: false });
    await acknowledge(driven);
    expect(driven.generation.state).toMatchObject({ name: "replaced", acknowledged: true });
  });

  test("a successor that does not acknowledge the commit for 3 s is killed and rolled back, however short probation is", async () => {
    const { driven, settled } = await commit({ probation: 500 });
    await pass(driven, 2_750);
    expect(driven.successor.isKilled).toBe(false);
    await pass(driven, 250);
    expect(driven.successor.isKilled).toBe(true);
    expect(await settled).toBe("rolledBack");
    await driven.reaches("ready");
    expect(driven.generation.context.history.records).toMatchObject([
      { outcome: "rolledBack", code: "ERR_UNRESPONSIVE" },
    ]);
    expect(driven.events).not.toContain("draining");
  });

  test("a successor is confirmed at the end of probation if its heartbeats come", async () => {
    const { driven, settled } = await commit({ probation: 1_000 });
    await acknowledge(driven);
    await pass(driven, 1_000, true);
    expect(await settled).toBe("confirmed");
    expect(await driven.generation.exit).toBe("upgraded");
  });

  test("a successor that hangs from its acknowledgement on is not confirmed at the end of a short probation", async () => {
    const { driven, settled } = await commit({ probation: 1_000 });
    await pass(driven, INTERVAL);
    await acknowledge(driven);
    await pass(driven, 3_000);
    expect(driven.successor.isKilled).toBe(false);
    await pass(driven, INTERVAL);
    expect(driven.successor.isKilled).toBe(true);
    expect(await settled).toBe("rolledBack");
  });

  test.each([500, 750, 1_500])(
    "a successor that acknowledges %i ms after the commit, and hangs from then on, is killed and rolled back",
    async (late) => {
      const { driven, settled } = await commit({ probation: 1_000 });
      await pass(driven, late);
      await acknowledge(driven);
      await pass(driven, 3_000);
      expect(driven.state).toBe("replaced");
      await pass(driven, INTERVAL);
      expect(driven.successor.isKilled).toBe(true);
      expect(await settled).toBe("rolledBack");
    },
  );

  test("a heartbeat that was read late does not confirm a successor that hangs since it sent it", async () => {
    const { driven, settled } = await commit({ probation: 1_000 });
    await acknowledge(driven);
    driven.successor.send({ type: "heartbeat" });
    driven.clock.advance(60_000);
    await turn();
    expect(driven.state).toBe("replaced");
    await pass(driven, 3_000);
    expect(driven.successor.isKilled).toBe(true);
    expect(await settled).toBe("rolledBack");
  });

  test("a predecessor that is late at every tick confirms a successor whose heartbeats come, and kills one that hangs", async () => {
    const { driven, settled } = await commit({ probation: 1_000 });
    await acknowledge(driven);
    for (let n = 0; n < 2; n++) {
      driven.successor.send({ type: "heartbeat" });
      driven.clock.advance(60_000);
    }
    expect(await settled).toBe("confirmed");
    const hanging = await commit({ probation: 1_000 });
    await acknowledge(hanging.driven);
    for (let n = 0; n < 7; n++) hanging.driven.clock.advance(60_000);
    expect(await hanging.settled).toBe("rolledBack");
  });

  test("a successor that is silent on probation for as long as it lasts is killed", async () => {
    const { driven, settled } = await commit({ probation: 4_000 });
    await acknowledge(driven);
    await pass(driven, 2_000, true);
    await pass(driven, 3_750);
    expect(driven.successor.isKilled).toBe(false);
    await pass(driven, 500);
    expect(driven.successor.isKilled).toBe(true);
    expect(await settled).toBe("rolledBack");
  });

  test("a successor that is silent stays on probation, and is confirmed when it beats again", async () => {
    const { driven, settled } = await commit({ probation: 3_000 });
    await acknowledge(driven);
    await pass(driven, 2_000, true);
    await pass(driven, 2_000);
    expect(driven.state).toBe("replaced");
    await pass(driven, 500, true);
    expect(await settled).toBe("confirmed");
    expect(driven.successor.isKilled).toBe(false);
  });

  test("a successor is not taken for silent while the watching process itself was late", async () => {
    const { driven } = await commit({ probation: 3_000 });
    await acknowledge(driven);
    for (let n = 0; n < 4; n++) driven.clock.advance(60_000);
    expect(driven.successor.isKilled).toBe(false);
  });

  test("a successor under a debugger that has acknowledged the commit is confirmed, though it is silent", async () => {
    const { driven, settled } = await commit({ probation: 10_000, inspected: true });
    await acknowledge(driven);
    await pass(driven, 9_500);
    expect(driven.generation.state).toMatchObject({ name: "replaced" });
    await pass(driven, 500);
    expect(await settled).toBe("confirmed");
    expect(driven.successor.isKilled).toBe(false);
  });

  test("a successor under a debugger that does not acknowledge the commit within upgradeTimeout is killed and rolled back", async () => {
    const { driven, settled } = await commit({ probation: 500, inspected: true, upgradeTimeout: 10_000 });
    await pass(driven, 9_750);
    expect(driven.successor.isKilled).toBe(false);
    await pass(driven, 250);
    expect(driven.successor.isKilled).toBe(true);
    expect(await settled).toBe("rolledBack");
    expect(driven.events).not.toContain("draining");
  });

  test("a successor without a probation is watched until it has acknowledged the commit", async () => {
    const { driven, settled } = await commit({ probation: 0 });
    await pass(driven, 2_750);
    expect(driven.generation.state).toMatchObject({ name: "replaced", acknowledged: false });
    await acknowledge(driven);
    await pass(driven, INTERVAL);
    expect(await settled).toBe("confirmed");
    expect(await driven.generation.exit).toBe("upgraded");
  });

  test("a successor without a probation that does not acknowledge the commit for 3 s is killed and rolled back", async () => {
    const { driven, settled } = await commit({ probation: 0 });
    await pass(driven, 3_000);
    expect(driven.successor.isKilled).toBe(true);
    expect(await settled).toBe("rolledBack");
    await driven.reaches("ready");
  });

  test("a successor is not killed for its silence once a stop has confirmed it", async () => {
    const { driven, settled } = await commit();
    void driven.generation.stop();
    expect(await settled).toBe("confirmed");
    await pass(driven, 10_000);
    expect(driven.successor.isKilled).toBe(false);
  });
});

test("a successor acknowledges the commit as its last word of that turn, and sends a heartbeat in the next one", async () => {
  const { driven, predecessor } = successorOf();
  const accepted = driven.generation.ready();
  await predecessor.receives("ready");
  const { length } = predecessor.types;
  const words = (): string[] => predecessor.types.slice(length);
  let wordsOfTheTurn: string[] | undefined;
  driven.emitter.once("ready", () => {
    predecessor.channel.readNow();
    wordsOfTheTurn = words();
  });
  predecessor.send({ type: "commit", predecessors: [] });
  await accepted;
  expect(wordsOfTheTurn).toEqual(["heartbeat", "commit-ack"]);
  await until(() => words().length > 2, "a heartbeat");
  expect(words()).toEqual(["heartbeat", "commit-ack", "heartbeat"]);
});
