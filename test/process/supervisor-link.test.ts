import { expect, onTestFinished, test } from "vitest";
import { Channel } from "../../dist/channel/channel.js";
import type { WorkerPlace } from "../../dist/channel/messages.js";
import { closeAll } from "../../dist/platform/descriptors.js";
import { check, native } from "../../dist/platform/native.js";
import { SupervisorLink, type SupervisorListener } from "../../dist/process/supervisor-link.js";
import { Inventory } from "../../dist/sockets/inventory.js";
import { Counterpart } from "../support/fake-env.js";

test("a worker says why it cannot release its roles, although the reason is longer than a message", async () => {
  const [left, right] = check(native().socketpair(), "make", "a pair of sockets");
  const supervisor = new Counterpart(left);
  const link = new SupervisorLink(new Channel(right), 1, {} as WorkerPlace, []);
  const reason = "x".repeat(200_000);
  link.subscribe({ yield: async () => Promise.reject(new Error(reason)) } as unknown as SupervisorListener);
  supervisor.send({ type: "yield" });
  await supervisor.receives("yielded");
  expect(supervisor.messages).toEqual([{ type: "yielded", message: `${reason.slice(0, 999)}…` }]);
});

test("a worker gives up no listener whose answer it reads together with that of another one", async () => {
  const [left, right] = check(native().socketpair(), "make", "a pair of sockets");
  const supervisor = new Counterpart(left);
  const link = new SupervisorLink(new Channel(right), 1, {} as WorkerPlace, []);
  const inventory = new Inventory([], { changed: () => link.keep(inventory.forSuccessor()) });
  onTestFinished(() => inventory.closeUsed(new Set()));
  const address = { kind: "tcp", host: "127.0.0.1", port: 0, ipv6Only: false } as const;
  const listen = async (name: string): Promise<void> => {
    const opened = await link.open({ name, address, backlog: 1, mode: 0 });
    inventory.add({ ...opened, name });
  };
  const listening = Promise.all(["a", "b", "c"].map(listen));
  await expect.poll(() => supervisor.types).toEqual(["open", "open", "open"]);
  for (const [n, name] of ["a", "b", "c"].entries()) {
    const [one, other] = check(native().socketpair(), "make", "a pair of sockets");
    supervisor.channel.send({ type: "opened", request: n + 1, entry: { name } }, [one]);
    closeAll([one, other]);
  }
  // As a worker does that was busy when its time was over.
  link.readNow();
  await listening;
  inventory.close("b");
  link.sendCommitAck();
  await supervisor.receives("commit-ack");
  expect(supervisor.messages.slice(3)).toEqual([{ type: "release", name: "b" }, { type: "commit-ack" }]);
});
