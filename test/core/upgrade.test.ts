import { get } from "node:http";
import { join } from "node:path";
import { expect, test } from "vitest";
import { Service, temporaryDirectory } from "../support/service.js";

test("SIGHUP replaces a running server, which exits once the new one is ready", async () => {
  const service = Service.start("http.js", { settings: { probation: 200 } });
  const { address } = await service.until("listening");
  const { port } = address as { port: number };
  await service.until("accepting");
  expect(await ask(port)).toBe(String(service.pid));

  process.kill(service.pid, "SIGHUP");
  const successor = await service.until("accepting", { generation: 1 });
  expect(await ask(port)).toBe(String(successor.pid));
  await service.until("exited", { generation: 0, outcome: "upgraded" });
  expect(await service.exited).toEqual([0, null]);
  expect(service.alive()).toEqual([successor.pid]);

  process.kill(successor.pid, "SIGTERM");
  await service.until("exited", { generation: 1, outcome: "stopped" });
  await service.ended();
  expect(service.noise).toBe("");
});

test("a process upgrades as soon as its predecessor has reported that it is confirmed", async () => {
  const flag = join(temporaryDirectory(), "flag");
  const service = Service.start("upgrades-when-confirmed.js", { settings: { flag, probation: 50 } });
  const [refused] = await Promise.race([
    service.until("failed").then((line) => [line]),
    service.until("accepting", { generation: 2 }).then(() => []),
  ]);
  expect(refused).toBeUndefined();
});

function ask(port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    get({ port, host: "127.0.0.1", agent: false }, (response) => {
      let text = "";
      response.on("data", (chunk: Buffer) => (text += chunk.toString()));
      response.on("end", () => resolve(text));
    }).on("error", reject);
  });
}
