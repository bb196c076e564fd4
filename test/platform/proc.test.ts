import { once } from "node:events";
import { chmodSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { join } from "node:path";
import { expect, test } from "vitest";
import { findOnPath, isSameFile } from "../../dist/platform/path.js";
import { ancestorsOf, findSocketOwners, socketInodes } from "../../dist/platform/proc.js";
import { formatHost, OPEN_STATE, parseInetSockets } from "../../dist/platform/proc-net.js";
import { temporaryDirectory } from "../support/service.js";

test("the owner of a listening socket is found by the socket's inode", async () => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const table = parseInetSockets(readFileSync("/proc/net/tcp", "utf8"));
  const [socket] = table.filter((one) => one.port === port && one.state === OPEN_STATE.tcp);
  expect(formatHost(socket!.host)).toBe("127.0.0.1");
  expect(socketInodes("self")).toContain(socket!.inode);
  expect([...findSocketOwners(new Set([socket!.inode]))]).toEqual([process.pid]);
  server.close();
  await once(server, "close");
  expect([...findSocketOwners(new Set([socket!.inode]))]).toEqual([]);
});

test("the ancestors of a process begin with its parent, and end after as many as were asked for", () => {
  const all = ancestorsOf(process.pid);
  expect(all[0]!.pid).toBe(process.ppid);
  expect(ancestorsOf("self", 1)).toEqual(all.slice(0, 1));
  expect(ancestorsOf(2 ** 30)).toEqual([]);
});

test("a program is looked up on PATH in its order, and a file that is not executable is skipped", () => {
  const root = temporaryDirectory();
  for (const name of ["a", "b", "c"]) {
    mkdirSync(join(root, name));
    writeFileSync(join(root, name, "tool"), "");
    if (name !== "a") chmodSync(join(root, name, "tool"), 0o755);
  }
  const path = [join(root, "a"), join(root, "b"), "c", ""].join(":");
  expect(findOnPath("tool", path)).toEqual([join(root, "b", "tool")]);
  expect(findOnPath("tool", path, root)).toEqual([join(root, "b", "tool"), join(root, "c", "tool")]);
  expect(findOnPath("tool", "", join(root, "c"))).toEqual([join(root, "c", "tool")]);
});

test("a symlink is the same file as what it leads to, and a missing file is the same as none", () => {
  const root = temporaryDirectory();
  mkdirSync(join(root, "release"));
  symlinkSync("release", join(root, "current"));
  expect(isSameFile(join(root, "release"), join(root, "current"))).toBe(true);
  expect(isSameFile(root, join(root, "current"))).toBe(false);
  expect(isSameFile(join(root, "none"), join(root, "none"))).toBe(false);
});
