import { Upgrader } from "handover/testing";
import type { Upgrader as RealUpgrader, Slot, SlotState, Units } from "handover";
import { expect, expectTypeOf, test } from "vitest";

interface Counts {
  window: number;
}

class Room {
  readonly messages: string[];
  constructor(messages: string[]) {
    this.messages = messages;
  }
}

interface Saved {
  messages: string[];
}

/** Is compiled for the sake of its types; what it does is tested elsewhere. */
function define(upg: Upgrader | RealUpgrader): void {
  const given = upg.slot<Counts>("given", { version: 1 });
  expectTypeOf(given).toEqualTypeOf<Slot<Counts>>();
  given.subscribe((state) => expectTypeOf(state).toEqualTypeOf<SlotState<Counts>>());
  // @ts-expect-error: it is no count
  void given.initiate({ window: "1" });

  const checked = upg.slot("checked", { version: 1, check: ({ window }: Counts) => window > 0 });
  expectTypeOf(checked).toEqualTypeOf<Slot<Counts>>();
  const migrated = upg.slot("migrated", { version: 2, migrate: (from): Counts => ({ window: from }) });
  expectTypeOf(migrated).toEqualTypeOf<Slot<Counts>>();
  expectTypeOf(upg.slot("any", { version: 1 })).toEqualTypeOf<Slot<unknown>>();

  const rooms = upg.units("room", {
    version: 1,
    run: (_, { messages }: Saved) => new Room(messages),
    freeze: (_, room) => ({ messages: room.messages }),
    stop: (_, state) => void expectTypeOf(state).toEqualTypeOf<Saved | undefined>(),
    priority: (_, room) => room.messages.length,
  });
  expectTypeOf(rooms).toEqualTypeOf<Units<Saved, Room>>();
  const later = upg.units("later", {
    version: 1,
    run: async (_, { messages }: Saved) => new Room(messages),
    freeze: async (_, { messages }) => ({ messages }),
  });
  expectTypeOf(later).toEqualTypeOf<Units<Saved, Room>>();
}

test("slots and units infer their types from their definitions", async () => {
  const upg = new Upgrader();
  expect(() => define(upg)).not.toThrow();
  await upg.stop();
});
