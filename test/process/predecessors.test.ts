import { getEventListeners } from "node:events";
import { describe, expect, onTestFinished, test } from "vitest";
import { Channel } from "../../dist/channel/channel.js";
import { FencingTokens } from "../../dist/exchange/fencing.js";
import { Predecessors } from "../../dist/process/predecessors.js";
import { Predecessor } from "../../dist/process/predecessor.js";

/** A parent, and the end of the channel at which it speaks. */
function open(): { older: Predecessors; parent: Predecessor; other: Channel } {
  const [other, fd] = Channel.pair();
  const parent = new Predecessor(new Channel(fd), { generation: 0, pid: 1 }, new FencingTokens());
  onTestFinished(() => {
    parent.leave();
    other.close();
  });
  return { older: new Predecessors([parent]), parent, other };
}

describe("a predecessor", () => {
  test("queryProgress() waits for each answer as long as its own timeout", async () => {
    const { parent, other } = open();
    const [first, second] = [parent.queryProgress(10), parent.queryProgress(10_000)];
    expect(await first).toBeUndefined();
    other.send({ type: "progress", connections: 3, remaining: 5 });
    expect(await second).toEqual({ connections: 3, remaining: 5 });
  });

  test("waitForDirect() leaves no listener on its signal when the predecessor is gone", async () => {
    const { older, other } = open();
    const { signal } = new AbortController();
    const gone = older.waitForDirect(signal);
    other.close();
    await gone;
    expect(getEventListeners(signal, "abort")).toEqual([]);
  });
});
