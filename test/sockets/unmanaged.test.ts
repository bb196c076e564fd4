import { connect, createServer } from "node:net";
import { once } from "node:events";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { native } from "../../dist/platform/native.js";
import { isFixed } from "../../dist/sockets/unmanaged.js";
import { handover } from "../support/program.js";
import { freePort } from "../support/port.js";
import { Service, temporaryDirectory } from "../support/service.js";

const warning = (port: number): RegExp =>
  new RegExp(`HANDOVER_UNMANAGED.*this process listens on tcp:127\\.0\\.0\\.1:${port} without handover`);

describe.each(["unmanaged-listener.js", "cluster-primary.js"])("a fixed port of %s", (fixture) => {
  test(`ready() warns of a fixed port that ${fixture} opened without handover, and upgrades are refused`, async () => {
    const outside = await freePort();
    const pidFile = join(temporaryDirectory(), "pid");
    const service = Service.start(fixture, { settings: { outside, pidFile } });
    await service.until("accepting");
    await service.untilNoise(warning(outside));
    const { code, message } = await service.upgrade("failed");
    expect(code).toBe("ERR_UNMANAGED_LISTENER");
    expect(message).toBe(
      `cannot upgrade: this process listens on tcp:127.0.0.1:${outside} without handover; open it with ` +
        'upg.listen(server, …), or pass its descriptor on with upg.fds, or set the option unmanaged: "allow"',
    );
    const rehearsal = await handover("upgrade", "--dry-run", "--pid-file", pidFile);
    expect(rehearsal).toMatchObject({ code: 1 });
    expect(rehearsal.stderr).toContain("cannot rehearse an upgrade: this process listens on");
    const probe = connect(outside, "127.0.0.1");
    await once(probe, "connect");
    probe.destroy();
  });
});

test('the option unmanaged: "allow" starts the upgrade, and the successor meets EADDRINUSE', async () => {
  const outside = await freePort();
  const settings = { outside, unmanaged: "allow" };
  const service = Service.start("unmanaged-listener.js", { settings });
  await service.until("accepting");
  const { code } = await service.upgrade("failed", { generation: 0 });
  expect(code).toBe("ERR_CHILD_EXITED");
  expect(service.noise).not.toContain("HANDOVER_UNMANAGED");
});

test("a port that the system chose, the inspector's port and SO_REUSEPORT are not in the way of an upgrade", () => {
  expect(isFixed(8080, [32_768, 60_999], undefined)).toBe(true);
  expect(isFixed(40_000, [32_768, 60_999], undefined)).toBe(false);
  expect(isFixed(9229, [32_768, 60_999], 9229)).toBe(false);
  expect(isFixed(undefined, [32_768, 60_999], undefined)).toBe(true);
});

test("findListeners() finds the listeners of the event loop, and no connection", async () => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  const client = connect(port, "127.0.0.1");
  await once(client, "connect");
  const found = native().findListeners() as number[];
  const ports = found.map((fd) => (native().describe(fd) as { port: number }).port);
  expect(ports).toContain(port);
  expect(ports).not.toContain(client.localPort);
  client.destroy();
  server.close();
});

test("a program that listens and forgets ready() is reminded after 10 s", async () => {
  const service = Service.start("forgets-ready.js");
  await service.until("listening");
  expect(await service.untilNoise(/HANDOVER_NOT_READY.*/)).toContain(
    "this process listens on tcp:127.0.0.1:0#1 for 10 s and does not accept: it waits for ready()",
  );
});
