import { expect, onTestFinished, test } from "vitest";
import { UpgradeHistory } from "../../dist/core/history.js";
import { HandoverError } from "../../dist/errors.js";
import { DrainContext } from "../../dist/exchange/drain-context.js";
import { FencingTokens } from "../../dist/exchange/fencing.js";
import { ProcessState } from "../../dist/state/process-state.js";
import { openPair } from "../support/local-pair.js";

/** The state of a process. */
const newState = (): ProcessState =>
  new ProcessState(new FencingTokens(), {
    self: { generation: 0, pid: 1 },
    directory: undefined,
    predecessors: () => [],
    isLeaving: () => false,
    assertMayRun: () => {},
  });

test("an upgrade that is rolled back after the history has moved is recorded as rolled back", async () => {
  const pair = openPair();
  const state = newState();
  const history = new UpgradeHistory(0, 1, state, () => {});
  history.open();
  const record = history.begin();
  Object.assign(record, { pid: 2, outcome: "probation", timings: { spawn: 1, ready: 1, commit: 1 } });
  const moved: string[] = [];
  pair.taker.subscribe("slot", undefined, ({ label }) => (moved.push(label), "taken"));
  await expect.poll(() => pair.owner.peers("slot")).toHaveLength(1);
  const context = new DrainContext(pair.owner, new Promise(() => {}), 60_000);
  onTestFinished(() => context.end());
  state.beginDrain(context);
  void state.drain(context, Promise.resolve());
  const ended = history.end(0, { moved: 0, stayed: {}, destroyed: 0, unsettled: 0, units: {} });
  await expect.poll(() => moved).toContain("handover:journal");
  // The successor dies, and what it had comes back.
  pair.endTaker();
  await expect.poll(() => pair.owner.peers("slot")).toEqual([]);
  state.rollBack();
  context.rollBack();
  await ended;
  history.fail(record, "rolledBack", new HandoverError("ERR_CHILD_EXITED", "it died"));
  expect(history.records).toMatchObject([
    { from: 0, to: 1, outcome: "rolledBack", code: "ERR_CHILD_EXITED" },
  ]);
});

test("a reason that is as long as a program likes is stored in brief", () => {
  const history = new UpgradeHistory(0, 1, newState(), () => {});
  history.fail(history.begin(), "failed", new HandoverError("ERR_ROLE", `no: ${"x".repeat(1_000_000)}`));
  const [{ reason = "" } = {}] = history.records;
  expect([reason.startsWith("no: x"), reason.endsWith("…"), reason.length]).toEqual([true, true, 4_200]);
});
