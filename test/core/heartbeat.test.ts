import { describe, expect, test } from "vitest";
import { Stage, until } from "../support/fake-env.js";

const INTERVAL = 250;

/** A process whose successor has heartbeats, up to its commit. */
async function commit({ probation = 3_000, inspected = false, upgradeTimeout = 60_000 } = {}): Promise<{
  stage: Stage;
  settled: Promise<string>;
}> {
  const stage = new Stage({ probation, upgradeTimeout });
  await stage.generation.ready();
  const { upgrade } = await stage.startUpgrade();
  stage.successor.readyWithHeartbeat(inspected);
  const { settled } = await upgrade;
  await stage.successor.receives("commit");
  return { stage, settled };
}

/** Lets time pass as the event loop sees it, one tick after the other. */
async function pass(stage: Stage, ms: number, beats = false): Promise<void> {
  for (let passed = 0; passed < ms; passed += INTERVAL) {
    if (beats) {
      stage.successor.send({ type: "heartbeat" });
      const { length } = stage.successors;
      await until(() => stage.successors.length === length, "the message");
    }
    stage.clock.advance(INTERVAL);
  }
}

async function acknowledge(stage: Stage): Promise<void> {
  stage.successor.send({ type: "commit-ack" });
  await until(() => stage.events.includes("draining"), "the drain");
}

describe("a successor with heartbeats", () => {
  test("a successor is offered nothing before it has acknowledged the commit", async () => {
    const { stage } = await commit();
    await pass(stage, 1_000);
    expect(stage.events).not.toContain("draining");
    expect(stage.generation.state).toMatchObject({ name: "replaced", acknowledged: false });
    await acknowledge(stage);
    expect(stage.generation.state).toMatchObject({ name: "replaced", acknowledged: true });
  });

  test("a successor that does not acknowledge the commit for 3 s is killed and rolled back, however short probation is", async () => {
    const { stage, settled } = await commit({ probation: 500 });
    await pass(stage, 2_750);
    expect(stage.successor.isKilled).toBe(false);
    await pass(stage, 250);
    expect(stage.successor.isKilled).toBe(true);
    expect(await settled).toBe("rolledBack");
    await stage.reaches("ready");
    expect(stage.generation.context.history.records).toMatchObject([
      { outcome: "rolledBack", code: "ERR_UNRESPONSIVE" },
    ]);
    expect(stage.events).not.toContain("draining");
  });

  test("a successor is confirmed at the end of probation if its heartbeats come", async () => {
    const { stage, settled } = await commit({ probation: 1_000 });
    await acknowledge(stage);
    await pass(stage, 1_000, true);
    expect(await settled).toBe("confirmed");
    expect(await stage.generation.exit).toBe("upgraded");
  });

  test("a successor that is silent on probation for as long as it lasts is killed", async () => {
    const { stage, settled } = await commit({ probation: 4_000 });
    await acknowledge(stage);
    await pass(stage, 2_000, true);
    await pass(stage, 3_750);
    expect(stage.successor.isKilled).toBe(false);
    await pass(stage, 500);
    expect(stage.successor.isKilled).toBe(true);
    expect(await settled).toBe("rolledBack");
  });

  test("a successor that is silent stays on probation, and is confirmed when it beats again", async () => {
    const { stage, settled } = await commit({ probation: 3_000 });
    await acknowledge(stage);
    await pass(stage, 2_000, true);
    await pass(stage, 2_000);
    expect(stage.state).toBe("replaced");
    await pass(stage, 500, true);
    expect(await settled).toBe("confirmed");
    expect(stage.successor.isKilled).toBe(false);
  });

  test("a successor is not taken for silent while the watching process itself was late", async () => {
    const { stage } = await commit({ probation: 3_000 });
    await acknowledge(stage);
    for (let n = 0; n < 4; n++) stage.clock.advance(60_000);
    expect(stage.successor.isKilled).toBe(false);
  });

  test("a successor under a debugger that has acknowledged the commit is confirmed, though it is silent", async () => {
    const { stage, settled } = await commit({ probation: 10_000, inspected: true });
    await acknowledge(stage);
    await pass(stage, 9_500);
    expect(stage.generation.state).toMatchObject({ name: "replaced" });
    await pass(stage, 500);
    expect(await settled).toBe("confirmed");
    expect(stage.successor.isKilled).toBe(false);
  });

  test("a successor under a debugger that does not acknowledge the commit within upgradeTimeout is killed and rolled back", async () => {
    const { stage, settled } = await commit({ probation: 500, inspected: true, upgradeTimeout: 10_000 });
    await pass(stage, 9_750);
    expect(stage.successor.isKilled).toBe(false);
    await pass(stage, 250);
    expect(stage.successor.isKilled).toBe(true);
    expect(await settled).toBe("rolledBack");
    expect(stage.events).not.toContain("draining");
  });

  test("a successor without a probation is watched until it has acknowledged the commit", async () => {
    const { stage, settled } = await commit({ probation: 0 });
    await pass(stage, 2_750);
    expect(stage.generation.state).toMatchObject({ name: "replaced", acknowledged: false });
    await acknowledge(stage);
    await pass(stage, INTERVAL);
    expect(await settled).toBe("confirmed");
    expect(await stage.generation.exit).toBe("upgraded");
  });

  test("a successor without a probation that does not acknowledge the commit for 3 s is killed and rolled back", async () => {
    const { stage, settled } = await commit({ probation: 0 });
    await pass(stage, 3_000);
    expect(stage.successor.isKilled).toBe(true);
    expect(await settled).toBe("rolledBack");
    await stage.reaches("ready");
  });

  test("a successor is not killed for its silence once a stop has confirmed it", async () => {
    const { stage, settled } = await commit();
    void stage.generation.stop();
    expect(await settled).toBe("confirmed");
    await pass(stage, 10_000);
    expect(stage.successor.isKilled).toBe(false);
  });
});
