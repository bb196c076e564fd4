import { describe, expect, test } from "vitest";
import { planRebalance } from "../../dist/supervisor/rebalance.js";
import { HttpClients } from "../soak/http-client.js";
import { WebSocketClients } from "../soak/websocket-client.js";
import { Client, selfSigned } from "../support/client.js";
import { Supervised, type SupervisedOptions } from "../support/supervised.js";

test.each([
  { loads: [], move: undefined },
  { loads: [400], move: undefined },
  { loads: [400, 0], move: { from: 0, to: 1, count: 200 } },
  { loads: [0, 10_000], move: { from: 1, to: 0, count: 250 } },
  { loads: [120, 100], move: undefined },
  { loads: [16, 0], move: { from: 0, to: 1, count: 8 } },
  { loads: [15, 0], move: undefined },
  { loads: [100, 100, 100, 20], move: undefined },
  { loads: [200, 100, 100, 20], move: { from: 0, to: 3, count: 85 } },
  { loads: [300, 0, 0, 0], move: { from: 0, to: 1, count: 75 } },
])("of workers with $loads connections $move moves", ({ loads, move }) => {
  const plan = planRebalance(new Map(loads.entries()), 250);
  const idlest = plan && loads[plan.to];
  expect(plan && { ...plan, to: loads.indexOf(idlest!) }).toEqual(move);
});

describe("after a scale from 1 to 2 workers", () => {
  test("about half of 400 busy keep-alive connections move to the new worker, and none fails or closes", async () => {
    const service = await start();
    const clients = new HttpClients(service.service.port, 400);
    await clients.begun;
    await service.scale(2);
    await balanced(service, 400);
    await clients.stop();
    expect(clients.failures).toEqual([]);
    await service.stop();
  });

  test("so do WebSockets", async () => {
    const service = await start();
    const clients = new WebSocketClients(service.service.port, 100);
    await clients.begun;
    await service.scale(2);
    await balanced(service, 100);
    await clients.stop();
    expect(clients.failures).toEqual([]);
    await service.stop();
    expect(service.service.noise).not.toContain("heard");
  });

  test("about half of 60 connections over TLS move, and their clients keep them", async () => {
    const settings = { protocol: "https", ...selfSigned(), secure: { keepAliveTimeout: 100_000 } };
    const service = await Supervised.start("any-protocol.js", { workers: 1, settings });
    const clients = await Promise.all(Array.from({ length: 60 }, () => Client.openTls(service.service.port)));
    const [first] = await Promise.all(clients.map((client) => client.ask()));
    await service.scale(2);
    await balanced(service, 60);
    const pids = await Promise.all(clients.map((client) => client.ask()));
    expect(new Set(pids).size).toBe(2);
    expect(pids).toContain(first);
    // An upgrade of both moves them again.
    await service.replace();
    const later = await Promise.all(clients.map((client) => client.ask()));
    expect(later.filter((pid) => pids.includes(pid))).toEqual([]);
    await service.stop();
  });

  test("upgrades while connections move lose nothing", async () => {
    const service = await start({ probation: 1 });
    const clients = new HttpClients(service.service.port, 200);
    await clients.begun;
    for (let n = 1; n <= 3; n++) {
      await service.scale(2);
      await service.eventually(({ workers }) => workers![1]!.connections! > 0);
      await service.replace();
      await service.scale(1);
    }
    await clients.stop();
    expect(clients.failures).toEqual([]);
    await service.stop();
  });
});

test("connections stay where they are with rebalance: false and with sticky clients", async () => {
  for (const option of [{ rebalance: false }, { sticky: "ip" as const }]) {
    const service = await start(option);
    const clients = new HttpClients(service.service.port, 60);
    await clients.begun;
    await service.scale(2);
    // The time of several looks.
    const { requests } = clients;
    while (clients.requests < requests + 5_000) await service.status();
    expect((await service.workers()).map(({ connections }) => connections)).toEqual([60, 0]);
    await clients.stop();
    await service.stop();
  }
});

/** One worker of the service under load. */
async function start(options: SupervisedOptions = {}): Promise<Supervised> {
  const service = await Supervised.start("../soak/server.js", { workers: 1, ...options });
  await service.until("accepting");
  return service;
}

/** Waits until neither of two workers has far more than half of the connections. */
async function balanced(service: Supervised, count: number): Promise<void> {
  await service.eventually(({ workers = [] }) =>
    workers.every(({ connections = 0 }) => Math.abs(connections - count / 2) <= count / 8),
  );
}
