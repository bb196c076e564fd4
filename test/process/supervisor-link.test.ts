import { expect, test } from "vitest";
import { Channel } from "../../dist/channel/channel.js";
import type { WorkerPlace } from "../../dist/channel/messages.js";
import { check, native } from "../../dist/platform/native.js";
import { SupervisorLink, type SupervisorListener } from "../../dist/process/supervisor-link.js";
import { Counterpart } from "../support/fake-env.js";

test("a worker says why it cannot release its roles, although the reason is longer than a message", async () => {
  const [left, right] = check(native().socketpair(), "make", "a pair of sockets");
  const supervisor = new Counterpart(left);
  const link = new SupervisorLink(new Channel(right), 1, {} as WorkerPlace, []);
  const reason = "x".repeat(200_000);
  link.subscribe({ yield: async () => Promise.reject(new Error(reason)) } as unknown as SupervisorListener);
  supervisor.send({ type: "yield" });
  await supervisor.receives("yielded");
  expect(supervisor.messages).toEqual([{ type: "yielded", message: reason.slice(0, 1_000) }]);
});
