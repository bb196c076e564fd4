import { connect } from "node:net";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { check, native } from "../../dist/platform/native.js";
import { openWhenFree } from "../../dist/supervisor/open-socket.js";
import { Crowd } from "../support/crowd.js";
import { freePort } from "../support/port.js";
import { ask, Service } from "../support/service.js";

const HANDOVER = fileURLToPath(new URL("../../bin/handover.js", import.meta.url));
const PROGRAM = fileURLToPath(new URL("../fixtures/supervisor/tcp-and-udp.js", import.meta.url));

test("workers whose supervisor is killed free every address at once, and exit with 1 when they have drained", async () => {
  const service = start(await freePort(), "--backoff", "60s");
  await accepting(service);
  // The socket of worker 1 is lent to worker 0: a second death in a row has a delay.
  for (const times of [1, 2]) {
    const lines = service.lines.filter(({ event, worker }) => event === "accepting" && worker === 1);
    expect(lines).toHaveLength(times);
    const from = service.lines.length;
    process.kill(lines.at(-1)!.pid, "SIGKILL");
    if (times === 1) await service.until("accepting", { worker: 1 }, from);
  }
  await service.untilNoise(/started again in 30000 ms/);
  const held = connect(service.port, "127.0.0.1");
  held.write("GET /hold HTTP/1.1\r\nHost: here\r\n\r\n");
  await service.until("holding");
  process.kill(service.pid, "SIGKILL");
  await service.until("drains", { worker: 0 });
  for (const type of ["stream", "dgram"] as const) {
    const fd = check(native().bindInet(type, "127.0.0.1", service.port, false), "bind", type);
    if (type === "stream") check(native().listen(fd, 1), "listen on", type);
    native().close(fd);
  }
  held.destroy();
  expect(await service.until("exits", { worker: 0 })).toMatchObject({ code: 1 });
});

test("a supervisor that is killed under load and started again serves, and its former workers do not", async () => {
  const port = await freePort();
  const former = start(port);
  await accepting(former);
  const held = Array.from({ length: 10 }, () => former.ask("/hold").catch(() => "cut off"));
  const clients = Array.from({ length: 8 }, () => new Crowd({ ask: async () => ask(port) }, 1));
  for (const client of clients) await client.answered(5);
  process.kill(former.pid, "SIGKILL");
  const next = start(port);
  await accepting(next);
  for (const client of clients) await client.answered(5);
  const who = (answer: string): string =>
    isWorker(former, answer) ? "former" : isWorker(next, answer) ? "next" : "failed";
  for (const client of clients) {
    await client.leave();
    const phases = client.log.map(who).filter((one, n, all) => one !== all[n - 1]);
    expect(phases.filter((phase) => phase !== "failed")).toEqual(["former", "next"]);
    expect(phases.at(-1)).toBe("next");
    expect(phases.filter((phase) => phase === "failed").length).toBeLessThanOrEqual(1);
  }
  // Nothing has cut the connections that never end.
  expect(await Promise.race([...held, Promise.resolve("open")])).toBe("open");
});

test("a supervisor waits for an address that a worker of a killed one holds, and says so", async () => {
  const port = await freePort();
  const former = start(port);
  const workers = await accepting(former);
  for (const pid of workers) process.kill(pid, "SIGSTOP");
  process.kill(former.pid, "SIGKILL");
  await former.exited;
  const next = start(port);
  const line = await next.untilNoise(
    /^handover: tcp:127\.0\.0\.1:\d+ is held by a worker of a supervisor that is gone \(pid (\d+)\): waiting for it, 10 s at most$/m,
  );
  expect(workers).toContain(Number(/pid (\d+)/.exec(line)![1]));
  const late = openWhenFree(
    { kind: "tcp", host: "127.0.0.1", port, ipv6Only: false },
    { backlog: 1, mode: -1 },
    50,
  );
  await expect(late).rejects.toThrow(/EADDRINUSE \(held by pid \d+\)$/);
  for (const pid of workers) process.kill(pid, "SIGCONT");
  await accepting(next);
  expect(await ask(port)).toMatch(/^\d+$/);
});

test("a supervisor does not wait for an address that a worker of a running one holds", async () => {
  const port = await freePort();
  const running = start(port);
  await accepting(running);
  const second = start(port, "--restarts", "0");
  expect(await second.exited).toEqual([1, null]);
  expect(second.noise).toMatch(/EADDRINUSE \(held by pid \d+\)/);
  expect(second.noise).not.toContain("waiting for it");
});

function start(port: number, ...options: string[]): Service {
  const settings = JSON.stringify({ port, drainTimeout: 60_000, exitTimeout: 5_000 });
  const words = ["run", "--workers", "2", ...options, "--", PROGRAM, settings];
  return Service.start("", { command: [process.execPath, HANDOVER, ...words] });
}

function isWorker(service: Service, pid: string): boolean {
  return service.lines.some((line) => line.event === "accepting" && String(line.pid) === pid);
}

/** Waits until both workers accept; their PIDs. */
async function accepting(service: Service): Promise<number[]> {
  const lines = [];
  for (const worker of [0, 1]) lines.push(await service.until("accepting", { worker }));
  return lines.map(({ pid }) => pid);
}
