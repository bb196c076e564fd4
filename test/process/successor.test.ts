import { expect, test } from "vitest";
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
