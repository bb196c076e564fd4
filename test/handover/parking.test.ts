import { expect, test } from "vitest";
import type { ConnectionAdapter } from "../../dist/connections/adapter.js";
import { Parking } from "../../dist/connections/parking.js";
import { native } from "../../dist/native.js";

const adapter: ConnectionAdapter = {
  name: "x",
  version: 1,
  idle: () => true,
  freeze: () => {},
  thaw: () => {},
};

test("a connection that has spoken in time is not closed because this process was busy", async () => {
  const [own, other] = native().socketpair() as [number, number];
  const how = await new Promise<string>((resolve) => {
    const parking = Parking.open({ wake: () => resolve("wake"), expire: () => resolve("expire") })!;
    parking.add({ fd: own, state: {}, adapter }, 100);
    native().send(other, Buffer.from("hello"), []);
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1_100);
  });
  expect(how).toBe("wake");
  native().close(other);
});
