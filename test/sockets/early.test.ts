import { createSocket } from "node:dgram";
import { once } from "node:events";
import { expect, onTestFinished, test } from "vitest";
import { brief, Service } from "../support/service.js";

test("a server and a socket with the option early emit listening once, before ready(), and accept at the commit", async () => {
  const service = Service.start("announces-early.js", { settings: brief });
  const { port, udp } = await service.until("early");
  const client = createSocket("udp4").bind(0, "127.0.0.1");
  await once(client, "listening");
  onTestFinished(() => void client.close());
  for (let generation = 0; generation < 3; generation++) {
    const accepting = generation === 0 ? await service.until("accepting") : await service.replace();
    expect(accepting["counts"]).toEqual({ server: 1, socket: 1 });
    const early = await service.until("early", { generation });
    expect(early).toMatchObject({ state: "starting", listening: true, port, udp });
    client.send("a", udp as number, "127.0.0.1");
    const [data] = (await once(client, "message")) as [Buffer];
    expect([await service.ask(), data.toString()]).toEqual([String(generation), `${generation} a`]);
  }
  // Before its commit each has reached its predecessor.
  const asked = service.lines.filter(({ event }) => event === "asked");
  expect(asked.map(({ answer }) => answer)).toEqual(["0", "1"]);
  expect(service.noise).toBe("");
});

test("a server and a socket with the option early can be closed before the commit", async () => {
  const service = Service.start("announces-early.js", { settings: { ...brief, closes: true } });
  const accepting = await service.upgrade();
  expect(accepting).toMatchObject({ generation: 1, counts: { server: 1, socket: 1 } });
  expect(await service.until("closed")).toMatchObject({ listening: false });
  expect(service.noise).toBe("");
});
