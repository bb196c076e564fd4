import { closeSync, openSync, readdirSync, readFileSync, readSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { Channel, closeAll } from "../../dist/channel/channel.js";
import type { Message } from "../../dist/channel/messages.js";
import { LocalExchange } from "../../dist/handoff/local.js";
import { parcel, testExchange, type Pair } from "../support/exchange-suite.js";
import { temporaryDirectory } from "../support/service.js";

interface LocalPair extends Pair {
  owner: LocalExchange;
  taker: LocalExchange;
  channels: [Channel, Channel];
}

/** Two exchanges over a real channel. `between` sees what the taker's side hears, and may change it. */
function open(between = (packet: Packet): Packet | undefined => packet): LocalPair {
  const [left, fd] = Channel.pair();
  const right = new Channel(fd);
  const owner = connectTo(left, (packet) => packet);
  const taker = connectTo(right, between);
  onTestFinished(() => [left, right].forEach((channel) => channel.close()));
  return { owner, taker, channels: [left, right], endTaker: () => right.close() };
}

type Packet = [Message, number[], Uint8Array];

function connectTo(channel: Channel, between: (packet: Packet) => Packet | undefined): LocalExchange {
  const exchange = new LocalExchange((...message) => channel.send(...message));
  channel.listen({
    message: (...heard) => {
      const packet = between(heard);
      if (packet !== undefined) exchange.hear(...packet);
    },
    end: () => exchange.end(),
  });
  return exchange;
}

describe("the local exchange", () => {
  testExchange(open);

  test("sends what was made in the same turn", () => {
    const { owner, taker, channels } = open();
    const ids: string[] = [];
    taker.serve("thing", ({ id }) => {
      ids.push(id);
      return "taken";
    });
    void owner.offer(() => [parcel("1")]);
    channels[1].readNow();
    expect(ids).toEqual(["1"]);
  });

  test("carries descriptors: the taker's are its own, close-on-exec, and what is refused is closed", async () => {
    const { owner, taker } = open();
    const [one, two, three] = [file("one"), file("two"), file("three")];
    const kept: number[] = [];
    taker.serve("thing", ({ id, fds }) => {
      if (id === "no") return { refused: "ERR_MINE" };
      kept.push(...fds);
      return "taken";
    });
    const before = descriptors();
    const settlements = await owner.offer(() => [
      parcel("yes", { fds: [one, two] }),
      parcel("no", { fds: [three] }),
    ]);
    expect(settlements.map(({ how }) => how)).toEqual(["taken", "refused"]);
    expect(kept.map(content)).toEqual(["one", "two"]);
    expect(kept.map(isCloseOnExec)).toEqual([true, true]);
    expect(descriptors()).toBe(before + 2);
    closeAll(kept);
    expect(descriptors()).toBe(before);
  });

  test.each([
    ["bytes", ([offer, fds, body]: Packet): Packet => [offer, fds, flip(body)], "ERR_DAMAGED"],
    [
      "descriptors that are missing",
      ([offer, fds, body]: Packet): Packet => [offer, drop(fds), body],
      "ERR_DESCRIPTOR",
    ],
    [
      "descriptors of nobody",
      ([offer, fds, body]: Packet): Packet => [offer, [...fds, file("more")], body],
      "ERR_DAMAGED",
    ],
  ])("refuses a whole batch for %s, and closes what came of it", async (_, damage, code) => {
    const { owner, taker } = open(damage);
    taker.serve("thing", () => "taken");
    const fds = [file("one"), file("two")];
    const before = descriptors();
    const settlements = await owner.offer(() => [parcel("1", { fds }), parcel("2")]);
    expect(settlements).toEqual([
      { how: "refused", code },
      { how: "refused", code },
    ]);
    expect(descriptors()).toBe(before);
    expect(fds.map(content)).toEqual(["one", "two"]);
  });

  test("forgets, when somebody else reads on, what was offered before and is not settled", async () => {
    const heard: Message[] = [];
    // Its first reader dies over the first batch.
    const { owner, taker } = open((packet) => (heard.push(packet[0]) === 1 ? undefined : packet));
    const seen: string[] = [];
    taker.serve("thing", ({ id }) => {
      seen.push(id);
      return "taken";
    });
    const fd = file("one");
    const lost = owner.offer(() => [parcel("lost")]);
    await expect.poll(() => heard.length).toBe(1);
    const before = descriptors();
    const unread = owner.offer(() => [parcel("unread", { fds: [fd] })]);
    taker.restart();
    expect(await Promise.all([lost, unread])).toEqual([[{ how: "withdrawn" }], [{ how: "withdrawn" }]]);
    expect(await owner.offer(() => [parcel("again")])).toEqual([{ how: "taken" }]);
    expect(seen).toEqual(["again"]);
    expect(descriptors()).toBe(before);
  });

  test("believes only the confirmation of its own restart", async () => {
    const { owner, taker, channels } = open();
    const seen: string[] = [];
    taker.serve("thing", ({ id }) => {
      seen.push(id);
      return "taken";
    });
    channels[0].send({ type: "restarted", id: "of an older reader" });
    const offers = [owner.offer(() => [parcel("1")])];
    taker.restart();
    expect(await Promise.all(offers)).toEqual([[{ how: "withdrawn" }]]);
    expect(seen).toEqual([]);
  });

  test("withdraws what this process cannot queue", async () => {
    const exchange = new LocalExchange(() => {
      throw new Error("EMFILE");
    });
    expect(await exchange.offer(() => [parcel("1")])).toEqual([{ how: "withdrawn" }]);
    expect(exchange.isOpen).toBe(true);
  });
});

test("what a process said before it died is heard, though it had not read everything", async () => {
  const [left, fd] = Channel.pair();
  const right = new Channel(fd);
  left.send({ type: "kept" });
  right.send({ type: "stopping" });
  right.close();
  const heard: string[] = [];
  await new Promise<void>((resolve) => {
    left.listen({ message: ({ type }) => heard.push(type), end: () => resolve() });
  });
  left.close();
  expect(heard).toEqual(["stopping"]);
});

function file(text: string): number {
  const path = join(temporaryDirectory(), "file");
  writeFileSync(path, text);
  const fd = openSync(path, "r");
  onTestFinished(() => {
    try {
      closeSync(fd);
    } catch {
      // Its new owner has closed it.
    }
  });
  return fd;
}

function content(fd: number): string {
  const buffer = Buffer.alloc(16);
  return buffer.toString("utf8", 0, readSync(fd, buffer, 0, 16, 0));
}

function isCloseOnExec(fd: number): boolean {
  const [, flags] = /^flags:\s+(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "utf8"))!;
  return (parseInt(flags!, 8) & 0o2000000) !== 0;
}

/** How many this process has; the one that counts is in it, always. */
function descriptors(): number {
  return readdirSync("/proc/self/fd").length;
}

function flip(body: Uint8Array): Uint8Array {
  return body.map((byte, n) => (n === 0 ? byte ^ 1 : byte));
}

function drop(fds: number[]): number[] {
  closeAll(fds.slice(1));
  return fds.slice(0, 1);
}
