import { expect, onTestFinished, test } from "vitest";
import { Channel } from "../../dist/channel/channel.js";
import type { Message } from "../../dist/channel/messages.js";
import { SupervisorLink } from "../../dist/process/supervisor-link.js";
import { UnitDirectory, type UnitHolder } from "../../dist/supervisor/unit-directory.js";
import { testDirectory, testReturns, type Member } from "../support/directory-suite.js";

const limits = { probation: 0, upgradeTimeout: 1, maxDraining: 1 };
const PLACE = { count: 20, name: "test", generation: 0, peers: 0, limits };

/** A worker's end of a real control link, and the supervisor's end of it. */
function join(
  units: UnitDirectory,
  index: number,
  seen: (message: Message) => void = () => {},
): Member & { holder: UnitHolder } {
  const [supervisor, fd] = Channel.pair();
  const worker = new Channel(fd);
  onTestFinished(() => [supervisor, worker].forEach((channel) => channel.close()));
  const name = { index, generation: 0, pid: 1_000 + index };
  let isDead = false;
  const holder: UnitHolder = {
    ...name,
    get isDead() {
      return isDead;
    },
    readNow: () => supervisor.readNow(),
  };
  supervisor.listen({
    message: (message) => {
      seen(message);
      if (message.type === "own") {
        const results = units.own(holder, message.kind, message.ids, message.from);
        supervisor.send({ type: "owned", request: message.request, results });
      } else if (message.type === "where") {
        const owner = units.where(message.kind, message.id);
        supervisor.send({
          type: "owned",
          request: message.request,
          results: owner === undefined ? [] : [owner],
        });
      } else if (message.type === "disown") units.disown(holder, message.kind, message.ids, message.fences);
    },
    end: () => {},
  });
  const { directory } = new SupervisorLink(worker, 1, { ...PLACE, index }, []);
  const die = async (): Promise<void> => {
    isDead = true;
    worker.close();
    units.bury(holder);
  };
  return { directory, name, die, holder };
}

const open = (): (() => Member) => {
  const units = new UnitDirectory();
  let index = 0;
  return () => join(units, index++);
};
testDirectory(open);
testReturns(open);

test("a supervisor remembers nothing about units that no process owns", async () => {
  const units = new UnitDirectory();
  const [a, b] = [join(units, 0), join(units, 1)];
  const [owned] = await a.directory.own("room", ["x", "y"]);
  await b.directory.own("room", ["x"], a.name);
  expect(units.size).toBe(2);
  a.directory.disown("room", [{ id: "x", fence: (owned as { fence: number }).fence }]);
  await a.directory.where("room", "x");
  await a.die();
  expect(units.size).toBe(1);
  await b.die();
  expect(units.size).toBe(0);
});

test("what a worker asks in one turn goes in one message, for each kind and each process that offers", async () => {
  const sent: string[] = [];
  const units = new UnitDirectory();
  const worker = join(units, 0, (message) =>
    sent.push("ids" in message ? `${message.type} ${message.kind} ${message.ids.length}` : message.type),
  );
  const { directory } = worker;
  const ids = Array.from({ length: 100 }, (_, n) => String(n));
  const owned = await Promise.all(ids.map(async (id) => directory.own("room", [id])));
  await Promise.all([directory.own("seat", ["x"]), directory.own("room", ["x"], worker.name)]);
  for (const [n, [result]] of owned.entries())
    directory.disown("room", [{ id: ids[n]!, fence: (result as { fence: number }).fence }]);
  await directory.where("room", "x");
  expect(sent).toEqual(["own room 100", "own seat 1", "own room 1", "disown room 100", "where"]);
});

test("the word of a worker that gives a unit up counts when it was sent, although it was not read", async () => {
  const units = new UnitDirectory();
  const [a, b] = [join(units, 0), join(units, 1)];
  const [owned] = await a.directory.own("room", ["x", "y"]);
  a.directory.disown("room", [{ id: "x", fence: (owned as { fence: number }).fence }]);
  // It is sent at the end of the turn; the event loop would read it in the next one.
  await Promise.resolve();
  expect(units.own(b.holder, "room", ["x", "y"])).toEqual([expect.any(Number), a.name]);
});

test("a question to a supervisor that is gone is refused", async () => {
  const worker = join(new UnitDirectory(), 0);
  await worker.die();
  await expect(worker.directory.own("room", ["x"])).rejects.toMatchObject({ code: "ERR_STOPPED" });
  await expect(worker.directory.where("room", "x")).rejects.toMatchObject({ code: "ERR_STOPPED" });
});
