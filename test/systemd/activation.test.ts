import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { native } from "../../dist/platform/native.js";
import { identify, type InventoryItem } from "../../dist/sockets/inventory.js";
import { takeActivation } from "../../dist/systemd/activation.js";
import { readEnvironment } from "../../dist/systemd/environment.js";
import { readStoreName, storeNames } from "../../dist/systemd/store.js";
import { readAll, target } from "../support/client.js";
import { brief, Service, temporaryDirectory } from "../support/service.js";

function listener(path: string): number {
  const fd = native().bindUnix(path, 0o600);
  native().listen(fd, 8);
  onTestFinished(() => void native().close(fd));
  return fd;
}

test.each(["tcp:127.0.0.1:8080", "web", "unix:/run/a b;c%.sock", "tcp:*:0#1", "größe\n"])(
  "the name %j is unchanged after the descriptor store",
  (name) => {
    const path = join(temporaryDirectory(), "a");
    const fd = listener(path);
    const file = identify(path);
    const [bare] = storeNames([{ name, fd }]);
    const [withFile] = storeNames([{ name, fd, file }]);
    expect(storeNames([{ name, fd: listener(join(temporaryDirectory(), "a")) }])).not.toEqual([bare]);
    for (const stored of [bare!, withFile!]) expect(stored).toMatch(/^[ -9;-~]{1,255}$/);
    expect(readStoreName(bare!)).toEqual({ name });
    expect(readStoreName(withFile!)).toEqual({ name, dev: file.dev, ino: file.ino });
  },
);

test("only listeners of this service are stored, under names that systemd accepts", () => {
  const fd = listener(join(temporaryDirectory(), "a"));
  const items: InventoryItem[] = [
    { name: "unit", fd, activation: "web" },
    { name: "handover:control", fd },
    { name: "a file", fd: 0 },
    { name: "x".repeat(256), fd },
  ];
  expect(storeNames(items)).toEqual([]);
});

test.each(["", "stored", "handover", "handover;web", "handover;%zz;1", "web"])(
  "%j is no name of the store",
  (name) => {
    expect(readStoreName(name)).toBeUndefined();
  },
);

test("takeActivation() ignores descriptors for another process, and a wrong count", () => {
  for (const LISTEN_FDS of ["2", "x", "-1"]) {
    const env: NodeJS.ProcessEnv = { LISTEN_PID: "1", LISTEN_FDS, LISTEN_FDNAMES: "a:b", OTHER: "1" };
    expect(takeActivation(env)).toEqual({ items: [], stored: [] });
    expect(env).toEqual({ OTHER: "1" });
  }
  expect(takeActivation({ LISTEN_PID: `${process.pid}`, LISTEN_FDS: "x" }).items).toEqual([]);
});

test("WATCHDOG_USEC holds for this process unless WATCHDOG_PID names another", () => {
  expect(watchdogOf({ WATCHDOG_USEC: "500000" })).toBe(500);
  expect(watchdogOf({ WATCHDOG_USEC: "500000", WATCHDOG_PID: "7" })).toBe(500);
  expect(watchdogOf({ WATCHDOG_USEC: "500000", WATCHDOG_PID: "8" })).toBeUndefined();
  for (const WATCHDOG_USEC of ["", "0", "-5", "soon"]) {
    expect(watchdogOf({ WATCHDOG_USEC })).toBeUndefined();
  }
});

/** The watchdog of process 7 if it was started with these variables. */
function watchdogOf(env: NodeJS.ProcessEnv): number | undefined {
  return readEnvironment({ variable: (name) => env[name] }, 7).watchdog;
}

test("a socket that systemd passes as descriptor 3 is served, and not mistaken for the channel", async () => {
  const path = join(temporaryDirectory(), "app.sock");
  const settings = JSON.stringify({ ...brief, plans: [[{ port: 0, name: "web" }]] });
  const fixture = join(import.meta.dirname, "../fixtures/listens-by-plan.js");
  const activate = join(temporaryDirectory(), "activate.py");
  writeFileSync(activate, ACTIVATE);
  const command = ["python3", activate, path, process.execPath, fixture, settings];
  const service = Service.start("", { command });
  await service.until("accepting");
  expect(await service.until("held")).toMatchObject({ address: path });
  expect(await readAll(target(path))).toBe(String(service.pid));
  const inode = identify(path).ino;
  const { pid } = await service.replace();
  expect(await readAll(target(path))).toBe(String(pid));
  await service.stop();
  // It is systemd's file.
  expect(identify(path).ino).toBe(inode);
  rmSync(path);
  expect(service.noise).toBe("");
});

/** Becomes the program, as systemd would start it: a listener at 3, and the variables. */
const ACTIVATE = `import os, socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen(8)
os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="web")
os.execvp(sys.argv[2], sys.argv[2:])
`;
