import { closeSync, openSync, readdirSync, readFileSync, readSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { Channel } from "../../dist/channel/channel.js";
import { closeAll } from "../../dist/platform/descriptors.js";
import { MAX_SIZE, type Message } from "../../dist/channel/messages.js";
import { LocalExchange } from "../../dist/exchange/local-exchange.js";
import { offer, parcel, taken, testExchange } from "../support/exchange-suite.js";
import { openPair as open, type LocalPair, type Packet } from "../support/local-pair.js";
import { temporaryDirectory } from "../support/service.js";

const reader = { generation: 2, pid: 2 };

const openSmall = (): LocalPair => open(undefined, undefined, 4_000);

describe("the local exchange over a socket with a small buffer", () => {
  testExchange(openSmall);

  test("the local exchange subscribes to more topics than fit in a message", async () => {
    const { owner, taker, channels } = openSmall();
    const labels = Array.from({ length: 1_000 }, (_, n) => `label ${n}`);
    for (const label of labels) taker.subscribe("thing", label, () => "taken");
    expect(await tellTopics(owner, channels[0], labels)).toEqual(labels);
    taker.changeReader(reader, false);
    channels[0].readNow();
    expect(owner.peers("thing", labels.at(-1))).toEqual([]);
    expect(await tellTopics(owner, channels[0], labels)).toEqual(labels);
  });

  test("the local exchange refuses a parcel whose head is too large for a message, and no other", async () => {
    const { owner, taker } = openSmall();
    taker.subscribe("thing", undefined, () => "taken");
    const reason = expect.stringMatching(/^cannot send offer: \d+ bytes, at most 4000/) as string;
    expect(await offer(owner, parcel("1"), parcel("x".repeat(4_000)), parcel("3"))).toEqual([
      taken,
      { how: "refused", code: "ERR_TOO_LARGE", reason },
      taken,
    ]);
  });

  test("the local exchange sends the refusals of a withdrawn parcel that fit in a message", async () => {
    const { owner, taker } = openSmall();
    taker.subscribe("thing", undefined, async (_, delivery) => {
      for (let n = 0; n < 16; n++) delivery.note({ code: `ERR_${n}`, reason: "\u0001".repeat(100) });
      return new Promise(() => {});
    });
    const [offered] = owner.offer([parcel("1")]);
    offered!.withdraw();
    const refusals = ["ERR_0", "ERR_1", "ERR_2"].map((code) => expect.objectContaining({ code }) as unknown);
    expect(await offered!.settled).toEqual({ how: "withdrawn", refusals, died: false });
  });
});

describe("the local exchange", () => {
  testExchange(open);

  test("a process that would take a parcel later is asked again as the parcel grows older, until it takes it", async () => {
    const { owner, taker } = open();
    const ages: number[] = [];
    taker.subscribe("thing", undefined, (_, { age }) => {
      ages.push(age!);
      return ages.length < 3 ? "later" : "taken";
    });
    expect(await offer(owner, parcel("1"))).toEqual([taken]);
    expect(ages).toHaveLength(3);
    expect(ages[1]! - ages[0]!).toBeGreaterThan(200);
    expect(ages[2]! - ages[1]!).toBeGreaterThan(200);
  });

  test("a parcel that would be taken later comes back when it is withdrawn, and no process is asked for it again", async () => {
    const { owner, taker } = open();
    const ids: string[] = [];
    const times = (id: string): number => ids.filter((one) => one === id).length;
    taker.subscribe("thing", undefined, ({ id }) => {
      ids.push(id);
      return id === "1" || times(id) < 3 ? "later" : "taken";
    });
    const [first] = owner.offer([parcel("1")]);
    await expect.poll(() => ids).toContain("1");
    first!.withdraw();
    expect(await first!.settled).toEqual({
      how: "withdrawn",
      refusals: [{ code: "ERR_REFUSED" }],
      died: false,
    });
    // On a busy machine it may have been asked again before.
    const before = times("1");
    expect(await offer(owner, parcel("2"))).toEqual([taken]);
    expect([times("1"), times("2")]).toEqual([before, 3]);
  });

  test("a parcel that comes back has a fence above that with which the other process had it", async () => {
    const { owner, taker } = open();
    const fences: number[] = [];
    taker.subscribe("thing", undefined, async ({ id }, { fence }) => {
      fences.push(fence);
      return id === "1" ? { code: "ERR_MINE" } : new Promise(() => {});
    });
    const [refused, withdrawn] = owner.offer([parcel("1"), parcel("2")]);
    await expect.poll(() => fences).toHaveLength(2);
    withdrawn!.withdraw();
    const settlements = await Promise.all([refused!.settled, withdrawn!.settled]);
    expect(settlements).toMatchObject([{ how: "refused" }, { how: "withdrawn" }]);
    const returned = settlements.map((one) => ("fence" in one ? one.fence : 0));
    expect(Math.min(...returned)).toBeGreaterThan(Math.max(...fences));
    expect(new Set(returned).size).toBe(2);
  });

  test("a process is not asked again for a parcel whose owner is gone", async () => {
    const { owner, taker, channels } = open();
    const ids: string[] = [];
    const signals: AbortSignal[] = [];
    taker.subscribe("thing", undefined, ({ id }, { signal }) => {
      ids.push(id);
      signals.push(signal);
      return "later";
    });
    owner.offer([parcel("1")]);
    await expect.poll(() => ids).toContain("1");
    channels[0].close();
    await expect.poll(() => signals.at(-1)!.aborted).toBe(true);
    const before = ids.length;
    const other = open();
    let questions = 0;
    other.taker.subscribe("thing", undefined, () => (questions++ < 2 ? "later" : "taken"));
    expect(await offer(other.owner, parcel("2"))).toEqual([taken]);
    expect(ids).toHaveLength(before);
  });

  test("the local exchange sends parcels offered in the same turn", () => {
    const { owner, taker, channels } = open();
    const ids: string[] = [];
    taker.subscribe("thing", undefined, ({ id }) => {
      ids.push(id);
      return "taken";
    });
    owner.offer([parcel("1")]);
    channels[1].readNow();
    expect(ids).toEqual(["1"]);
  });

  test("the local exchange carries descriptors, close-on-exec, and closes those of a refused parcel", async () => {
    const { owner, taker } = open();
    const [one, two, three] = [file("one"), file("two"), file("three")];
    const kept: number[] = [];
    taker.subscribe("thing", undefined, ({ id, fds }) => {
      if (id === "no") return { code: "ERR_MINE" };
      kept.push(...fds);
      return "taken";
    });
    const before = descriptors();
    const settlements = await offer(
      owner,
      parcel("yes", { fds: [one, two] }),
      parcel("no", { fds: [three] }),
    );
    expect(settlements.map(({ how }) => how)).toEqual(["taken", "refused"]);
    expect(kept.map(content)).toEqual(["one", "two"]);
    expect(kept.map(isCloseOnExec)).toEqual([true, true]);
    expect(descriptors()).toBe(before + 2);
    closeAll(kept);
    expect(descriptors()).toBe(before);
  });

  test("the local exchange refuses a parcel whose bytes have changed on the way, and no other", async () => {
    const { owner, taker } = open(([message, fds, body]) => [message, fds, flip(body)]);
    taker.subscribe("thing", undefined, () => "taken");
    const before = descriptors();
    expect(await offer(owner, parcel("1", { fds: [file("one")] }), parcel("2"))).toEqual([
      { how: "refused", code: "ERR_DAMAGED" },
      taken,
    ]);
    expect(descriptors()).toBe(before + 1);
  });

  test("the local exchange refuses a large parcel that was changed, or could still be changed", async () => {
    const { owner, taker } = open(([message, fds, body]) => {
      if (message.type !== "offer") return [message, fds, body];
      closeAll(fds);
      return [message, [file("x".repeat(100_000))], body];
    });
    taker.subscribe("thing", undefined, () => "taken");
    expect(await offer(owner, parcel("1", { body: Buffer.alloc(100_000, "y") }))).toEqual([
      { how: "refused", code: "ERR_DAMAGED" },
    ]);
  });

  test.each([
    [
      "descriptors that are missing",
      ([message, fds, body]: Packet): Packet => [message, message.type === "offer" ? drop(fds) : fds, body],
      "ERR_DESCRIPTOR",
    ],
    [
      "descriptors of nobody",
      ([message, fds, body]: Packet): Packet => [
        message,
        message.type === "offer" ? [...fds, file("more")] : fds,
        body,
      ],
      "ERR_DAMAGED",
    ],
  ])(
    "the local exchange refuses a whole batch for %s, and closes its descriptors",
    async (_, damage, code) => {
      const { owner, taker } = open(damage);
      taker.subscribe("thing", undefined, () => "taken");
      const fds = [file("one"), file("two")];
      const before = descriptors();
      const settlements = await offer(owner, parcel("1", { fds }), parcel("2"));
      expect(settlements).toEqual([
        { how: "refused", code },
        { how: "refused", code },
      ]);
      expect(descriptors()).toBe(before);
      expect(fds.map(content)).toEqual(["one", "two"]);
    },
  );

  test("the local exchange drops unsettled offers when the reader changes", async () => {
    const heard: Message[] = [];
    // Its first reader dies over the first batch.
    const { owner, taker } = open((packet) => (heard.push(packet[0]) === 1 ? undefined : packet));
    const seen: string[] = [];
    taker.subscribe("thing", undefined, ({ id }) => {
      seen.push(id);
      return "taken";
    });
    const fd = file("one");
    const lost = offer(owner, parcel("lost"));
    await expect.poll(() => heard.length).toBe(1);
    const before = descriptors();
    const unread = offer(owner, parcel("unread", { fds: [fd] }));
    taker.changeReader(reader, true);
    const withdrawn = { how: "withdrawn", refusals: [], died: true };
    expect(await Promise.all([lost, unread])).toEqual([[withdrawn], [withdrawn]]);
    expect(await offer(owner, parcel("again"))).toMatchObject([{ how: "taken", by: reader }]);
    expect(seen).toEqual(["again"]);
    expect(descriptors()).toBe(before);
  });

  test("the local exchange accepts only the acknowledgement of its own reader-changed", async () => {
    const { owner, taker, channels } = open();
    const seen: string[] = [];
    taker.subscribe("thing", undefined, ({ id }) => {
      seen.push(id);
      return "taken";
    });
    channels[0].send({ type: "reader-changed-ack", id: "of an older reader" });
    const offers = offer(owner, parcel("1"));
    taker.changeReader(reader, false);
    expect(await offers).toEqual([{ how: "withdrawn", refusals: [], died: false }]);
    expect(seen).toEqual([]);
  });

  test("the local exchange gives parcels back that a reader took before it died on probation", async () => {
    const { owner, taker } = open();
    taker.subscribe("thing", undefined, () => "taken");
    const [first] = (await offer(owner, parcel("1"))) as { confirmed: Promise<boolean> }[];
    taker.changeReader(reader, true);
    expect(await first!.confirmed).toBe(false);
    const [second] = (await offer(owner, parcel("1"))) as { confirmed: Promise<boolean> }[];
    owner.confirm();
    expect(await second!.confirmed).toBe(true);
  });

  test("the local exchange aborts deliveries when the reader changes", async () => {
    const { owner, taker } = open();
    let signal: AbortSignal | undefined;
    taker.subscribe("thing", undefined, async (_, claim) => {
      signal = claim.signal;
      return new Promise(() => {});
    });
    void offer(owner, parcel("1"));
    await expect.poll(() => signal?.aborted).toBe(false);
    taker.stopReading();
    expect(signal!.aborted).toBe(true);
  });

  test("the local exchange has no copies of an owner whose version does not support them", async () => {
    const { taker, channels } = open();
    channels[0].listen({
      message: ({ type }) => channels[0].send({ type: "unsupported", unknown: type }),
      end: () => {},
    });
    expect(await taker.peek("thing", "a")).toBeUndefined();
    expect(await taker.expedite("thing", "a", "1")).toBe(false);
  });

  test("the local exchange ignores the answer to another reader's query", async () => {
    const { owner, taker, channels } = open();
    owner.onQuery("thing", { expedite: () => true });
    const asked = taker.expedite("thing", "a", "1");
    channels[0].send({ type: "answer", request: 0, held: false });
    expect(await asked).toBe(true);
  });

  test("the local exchange does not take a missing answer for a no", async () => {
    const { taker, channels } = open();
    channels[0].listen({ message: () => {}, end: () => {} });
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    onTestFinished(() => void vi.useRealTimers());
    const asked = taker.expedite("thing", "a", "1");
    vi.advanceTimersByTime(10_000);
    expect(await asked).toBe(true);
  });

  test("the local exchange splits offers that one message cannot hold: many descriptors, long labels and ids", async () => {
    const messages: Message[] = [];
    const { owner, taker } = open((packet) => (messages.push(packet[0]), packet));
    // JSON writes six bytes for each of these.
    const [label, id] = ["\u0001".repeat(512), "\u0002".repeat(508)];
    const fds = [file("0"), file("1")];
    const seen: string[] = [];
    taker.subscribe("thing", undefined, (one) => {
      seen.push(`${one.id.slice(508)} ${one.fds.map(content).join()} ${one.body.length}`);
      closeAll(one.fds);
      return "taken";
    });
    const before = descriptors();
    const all = Array.from({ length: 300 }, (_, n) =>
      parcel(id + String(n).padStart(4, "0"), { label, fds: [fds[n % 2]!], body: Buffer.alloc(n * 200) }),
    );
    const short = Array.from({ length: 300 }, (_, n) => parcel(String(n), { fds: [fds[n % 2]!] }));
    expect((await offer(owner, ...all, ...short)).every(({ how }) => how === "taken")).toBe(true);
    expect(seen).toHaveLength(600);
    expect(seen.slice(0, 300)).toEqual(
      all.map((one, n) => `${String(n).padStart(4, "0")} ${n % 2} ${one.body.length}`),
    );
    const offers = messages.filter((message) => message.type === "offer");
    const counts = offers.map(({ parcels }) => parcels.reduce((sum, head) => sum + head.fds, 0));
    expect(Math.max(...counts)).toBeGreaterThan(100);
    expect(Math.max(...counts)).toBeLessThanOrEqual(253);
    expect(descriptors()).toBe(before);
  });

  test("the local exchange splits answers that one message cannot hold: many refusals with long reasons", async () => {
    const { owner, taker } = open();
    const [code, reason] = ["X".repeat(200_000), "\u0001".repeat(1_000)];
    taker.subscribe("thing", undefined, async (one, claim) => {
      if (one.id.startsWith("throws")) throw Object.assign(new Error(reason), { code });
      for (let n = 0; n < 20; n++) claim.note({ code, reason });
      return new Promise(() => {});
    });
    const offered = owner.offer(Array.from({ length: 200 }, (_, n) => parcel(`waits ${n}`)));
    const thrown = await offer(owner, ...Array.from({ length: 200 }, (_, n) => parcel(`throws ${n}`)));
    const refusal = { code: "X".repeat(64), reason: "\u0001".repeat(100) };
    expect(thrown.every((one) => one.how === "refused" && one.code === refusal.code)).toBe(true);
    for (const one of offered) one.withdraw();
    const withdrawn = await Promise.all(offered.map(({ settled }) => settled));
    const expected = { how: "withdrawn", refusals: Array.from({ length: 16 }, () => refusal), died: false };
    expect(withdrawn).toEqual(Array.from({ length: 200 }, () => expected));
  });

  test("the local exchange withdraws a large body that is being written when the reader changes", async () => {
    const { owner, taker } = open();
    const seen: string[] = [];
    taker.subscribe("thing", undefined, ({ id }) => {
      seen.push(id);
      return "taken";
    });
    const before = descriptors();
    const large = { body: Buffer.alloc(50_000_000) };
    const offers = offer(owner, parcel("1", large));
    taker.changeReader(reader, true);
    expect(await offers).toEqual([{ how: "withdrawn", refusals: [], died: true }]);
    expect(await offer(owner, parcel("2", large))).toMatchObject([{ how: "taken", by: reader }]);
    expect(seen).toEqual(["2"]);
    await expect.poll(descriptors).toBe(before);
  });

  test("the local exchange reports deliveries that were taken before the reader changes", async () => {
    const { owner, taker } = open();
    let decide: ((verdict: "taken") => void) | undefined;
    taker.subscribe("thing", undefined, () => new Promise((resolve) => (decide = resolve)));
    const offers = offer(owner, parcel("1"));
    await expect.poll(() => typeof decide).toBe("function");
    decide!("taken");
    // It has been taken, and the answer is yet to be sent.
    await Promise.resolve();
    taker.stopReading();
    taker.changeReader(reader, false);
    expect(await offers).toEqual([taken]);
  });

  test("the local exchange answers a query with nothing if a copy cannot be sent", async () => {
    const { owner, taker } = open();
    owner.onQuery("thing", { peek: async () => parcel("x".repeat(200_000)) });
    expect(await taker.peek("thing", "a")).toBeUndefined();
  });

  test("the local exchange gives no copy that was changed on its way", async () => {
    const { owner, taker } = open(([message, fds, body]) => [message, fds, flip(body)]);
    owner.onQuery("thing", { peek: async () => parcel("1") });
    expect(await taker.peek("thing", "a")).toBeUndefined();
  });

  test("the local exchange has lost the parcels that it has sent when the channel has failed, and no others", async () => {
    const { owner } = open();
    const settlements = offer(owner, parcel("sent"), parcel("large", { body: Buffer.alloc(100_000) }));
    owner.fail([]);
    owner.lose();
    expect(await settlements).toEqual([{ how: "lost" }, { how: "withdrawn", refusals: [], died: false }]);
  });

  test("the local exchange has no peer once a send has failed", async () => {
    const { owner, taker, channels } = open();
    taker.subscribe("thing", undefined, () => "taken");
    await Promise.resolve();
    channels[0].readNow();
    expect(owner.peers("thing")).toHaveLength(1);
    channels[1].close();
    expect(await offer(owner, parcel("1"))).toMatchObject([{ how: "withdrawn", died: false }]);
    expect(owner.peers("thing")).toEqual([]);
  });

  test("the local exchange withdraws parcels that cannot be queued, in a later turn", async () => {
    const exchange = new LocalExchange({ send: throwFull, maxSize: MAX_SIZE }, reader, () => 0);
    let turns = 0;
    setImmediate(() => turns++);
    expect(await offer(exchange, parcel("1"))).toEqual([{ how: "withdrawn", refusals: [], died: false }]);
    expect(turns).toBe(1);
  });
});

test("a channel delivers the messages that a process sent before it died with unread ones", async () => {
  const [left, fd] = Channel.pair();
  const right = new Channel(fd);
  left.send({ type: "confirmed" });
  right.send({ type: "stopping" });
  right.close();
  const heard: string[] = [];
  await new Promise<void>((resolve) => {
    left.listen({ message: ({ type }) => heard.push(type), end: () => resolve() });
  });
  left.close();
  expect(heard).toEqual(["stopping"]);
});

/** The labels for which the other side is known to take parcels, once it has told all that it has subscribed to. */
async function tellTopics(owner: LocalExchange, channel: Channel, labels: string[]): Promise<string[]> {
  await Promise.resolve();
  channel.readNow();
  return labels.filter((label) => owner.peers("thing", label).length > 0);
}

function throwFull(): never {
  throw new Error("EMFILE");
}

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
