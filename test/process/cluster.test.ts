import { expect, test } from "vitest";
import { brief, Service } from "../support/service.js";

test("a primary of node:cluster is upgraded, and each generation has workers of its own", async () => {
  const service = Service.start("cluster-workers.js", { settings: brief });
  for (const generation of [0, 1, 2]) {
    const { pid: by } = await service.until("accepting", { generation });
    for (const name of ["1", "2"]) {
      const { channel, options } = await service.until("works", { by, name });
      expect([channel, options]).toEqual([undefined, undefined]);
    }
    expect(await service.ask()).toBe(String(by));
    await (generation < 2 ? service.replace() : service.stop());
    for (const name of ["1", "2"]) await service.until("works no more", { by, name });
  }
  await service.ended();
  expect(service.noise).toBe("");
});
