import { expect, test } from "vitest";
import { Client } from "../support/client.js";
import { FaultInjector } from "../support/fault-injector.js";
import { Service } from "../support/service.js";

const HELD = 3;

interface Held {
  service: Service;
  injector: FaultInjector;
  clients: Client[];
}

/** Upgrades a service, and waits until the successor is confirmed. Requests to the predecessor are held until then. */
async function confirm(): Promise<Held> {
  const injector = new FaultInjector();
  const settings = { probation: 0, drainTimeout: 20_000 };
  const service = Service.start("pauses-at-phases.js", { settings, env: injector.env });
  await service.until("accepting");
  const clients = await Client.openAll(service.port, HELD);
  for (const client of clients) client.request("/hold");
  await service.until("holding", { count: HELD });
  const { pid } = await service.upgrade();
  await service.until("recorded", { pid, outcome: "confirmed" });
  // What the successor had to say of the upgrade has been sent when it answers.
  expect(await service.ask()).toBe(String(pid));
  return { service, injector, clients };
}

test("after probation, connections that could not be sent drain in the predecessor as without a successor", async () => {
  const { service, injector, clients } = await confirm();
  injector.arm({ process: 0, function: "sendmsg", calls: 1, error: "EIO" });
  process.kill(service.pid, "SIGUSR2");
  for (const client of clients) expect(await client.answer()).toBe(String(service.pid));
  expect(await service.until("failed", { generation: 0 })).toMatchObject({
    code: "ERR_CHANNEL",
    message: expect.stringContaining("cannot send offer: EIO") as string,
  });
  await Promise.all(clients.map(async ({ ended }) => ended));
  expect(await service.until("exit", { generation: 0 })).toMatchObject({
    moved: 0,
    destroyed: 0,
    unsettled: 0,
    code: "ERR_CHANNEL",
  });
});

test("after probation, connections whose settlement is lost live in the successor, and are counted as unsettled", async () => {
  const { service, injector, clients } = await confirm();
  injector.arm({ process: 1, function: "sendmsg", calls: 1, error: "EIO" });
  process.kill(service.pid, "SIGUSR2");
  for (const client of clients) expect(await client.answer()).toBe(String(service.pid));
  expect(await service.until("failed", { generation: 0 })).toMatchObject({
    code: "ERR_CHANNEL",
    message: expect.stringContaining("cannot send settle: EIO") as string,
  });
  const exit = await service.until("exit", { generation: 0 });
  const { unsettled } = exit;
  expect(exit).toMatchObject({ moved: 0, destroyed: 0, code: "ERR_CHANNEL" });
  expect(unsettled).toBeGreaterThan(0);
  const { pid } = service.accepting!;
  const open = clients.slice(0, Number(unsettled));
  for (const client of open) expect(await client.ask()).toBe(String(pid));
});
