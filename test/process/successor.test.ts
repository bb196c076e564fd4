import { expect, onTestFinished, test } from "vitest";
import { CONNECTION_KIND } from "../../dist/connections/connection-parcel.js";
import { systemEnv } from "../../dist/process/env.js";
import { startSuccessor } from "../../dist/process/start-successor.js";

test("a successor whose channel was closed before its end was read is gone", async () => {
  const command = { file: "/bin/sh", argv0: "sh", args: ["-c", "read line"], cwd: "/", env: {} };
  const listener = {
    acknowledged: () => {},
    stopping: () => {},
    channelFailed: () => {},
    progress: () => ({ connections: 0, moved: 0, remaining: 0 }),
  };
  const child = await startSuccessor(systemEnv, command, { generation: 0, items: [] }, listener);
  child.kill();
  child.close();
  await child.gone;
  await expect(child.dead).resolves.toMatchObject({ code: "ERR_CHILD_EXITED" });
});

test("what was offered to a confirmed successor that breaks the protocol and lives is lost, and not taken back", async () => {
  const script = `
    const { readSync, writeSync } = require("node:fs");
    const packet = Buffer.alloc(131072);
    (function read() {
      let length = 0;
      try { length = readSync(3, packet); } catch {}
      if (packet.toString("latin1", 0, length).includes('"offer"')) writeSync(3, "garbage");
      setImmediate(read);
    })();`;
  const command = { file: process.execPath, argv0: "node", args: ["-e", script], cwd: "/", env: {} };
  const listener = {
    acknowledged: () => {},
    stopping: () => {},
    channelFailed: () => {},
    progress: () => ({ connections: 0, moved: 0, remaining: 0 }),
  };
  const child = await startSuccessor(systemEnv, command, { generation: 0, items: [] }, listener);
  onTestFinished(() => child.kill());
  child.disown();
  const parcel = { kind: CONNECTION_KIND, label: "a", id: "0", version: 1, codec: "json", fds: [] };
  const [offered] = child.exchange.offer([{ ...parcel, body: Buffer.from("{}") }]);
  expect(await offered!.settled).toEqual({ how: "lost" });
});
