import { describe, expect, test } from "vitest";
import { DrivenProcess, PEER, successorOf, until } from "../support/fake-env.js";

/** A process that accepts, without a predecessor. */
async function ready(): Promise<DrivenProcess> {
  const driven = new DrivenProcess({ upgradeTimeout: 1_000 });
  await driven.generation.ready();
  return driven;
}

/** The timer comes first, and the input in the same turn: as after a pause of this process. */
describe("a process that was busy reads what has arrived before it takes another process for silent", () => {
  test("a staged successor that has answered in time is used", async () => {
    const driven = await ready();
    const staging = driven.generation.stage();
    await until(() => driven.successors.length === 1, "a successor");
    const { successor } = driven;
    successor.isBlocked = true;
    successor.readyToBeStaged();
    await successor.receives("stage");
    successor.send({ type: "ready", used: [] });
    driven.clock.advance(1_000);
    expect(await staging).toMatchObject({ pid: PEER });
    expect(successor.isKilled).toBe(false);
  });

  test("a successor that has closed its channel, and exits in time, is reported as exited", async () => {
    const driven = await ready();
    const { upgrade } = await driven.startUpgrade();
    const { size } = driven.clock;
    driven.successor.channel.close();
    await until(() => driven.clock.size > size, "the end of the channel");
    driven.clock.advance(1_000);
    driven.successor.exit(7);
    await expect(upgrade).rejects.toMatchObject({ code: "ERR_CHILD_EXITED" });
  });

  test("a successor that was killed, and dies in time, is not reported as unkillable", async () => {
    const driven = await ready();
    const aborted = new AbortController();
    const { upgrade } = await driven.startUpgrade(aborted.signal);
    driven.successor.isUnkillable = true;
    aborted.abort();
    expect(driven.successor.isKilled).toBe(true);
    driven.clock.advance(5_000);
    driven.successor.exit(0);
    await expect(upgrade).rejects.toMatchObject({ code: "ERR_ABORTED" });
  });

  test("a successor accepts whose predecessor has committed in time", async () => {
    const { driven, predecessor } = successorOf({ upgradeTimeout: 1_000 });
    const accepted = driven.generation.ready();
    await predecessor.receives("ready");
    predecessor.send({ type: "commit", predecessors: [] });
    driven.clock.advance(1_000);
    await accepted;
    expect(driven.generation.state).toEqual({ name: "ready", onProbation: true });
  });

  test("a successor accepts whose predecessor has died in time", async () => {
    const { driven, predecessor } = successorOf({ upgradeTimeout: 1_000 });
    const accepted = driven.generation.ready();
    await predecessor.receives("ready");
    predecessor.channel.close();
    driven.clock.advance(1_000);
    await accepted;
    expect(driven.state).toBe("ready");
  });
});
