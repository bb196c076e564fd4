import { expect, test } from "vitest";
import { HttpClients } from "../soak/http-client.js";
import { Supervised } from "../support/supervised.js";

test("a connection that was accepted in place of another worker moves at the next upgrade", async () => {
  const service = await Supervised.start("../soak/server.js", { workers: 2 });
  const [, second] = await service.pids();
  process.kill(second!, "SIGSTOP");
  // About half of them wait in the queue of the worker that hangs, until the other one is lent it.
  const clients = new HttpClients(service.service.port, 20);
  await clients.begun;
  process.kill(second!, "SIGCONT");
  await service.settled();
  await service.replace();
  await clients.stop();
  expect(clients.failures).toEqual([]);
  await service.stop();
});
