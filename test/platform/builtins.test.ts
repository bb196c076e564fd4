import { execFileSync } from "node:child_process";
import { createServer as createHttpServer } from "node:http";
import { createSecureServer, createServer as createHttp2Server } from "node:http2";
import { createServer as createHttpsServer } from "node:https";
import { createServer as createTlsServer } from "node:tls";
import { expect, test } from "vitest";
import { isTlsServer } from "../../dist/platform/builtins.js";

/** Modules that handover needs at every start, beside those that `server.listen()` loads. */
const NEEDED = ["os", "timers/promises", "worker_threads"];

test("a start with handover loads no module of Node that a start does not need", () => {
  const bare = modulesOf(
    "const listen = (server) => new Promise((up) => server.listen(0, '127.0.0.1', up));",
  );
  const own = modulesOf(`
    import { Upgrader } from "handover";
    const upg = new Upgrader();
    const listen = async (server) => { await upg.listen(server, 0, "127.0.0.1"); await upg.ready(); };`);
  expect(own).toContain("os");
  expect(own.filter((name) => !bare.includes(name) && !NEEDED.includes(name))).toEqual([]);
});

test("servers of tls, https and http2 with TLS are told from others", () => {
  const secure = [createTlsServer(), createHttpsServer(), createSecureServer()];
  const plain = [createHttpServer(), createHttp2Server()];
  expect(secure.map(isTlsServer)).toEqual([true, true, true]);
  expect(plain.map(isTlsServer)).toEqual([false, false]);
});

/** The modules that a program has loaded once its server listens. */
function modulesOf(listen: string): string[] {
  const program = `
    import { createServer } from "node:http";
    import { builtinModules } from "node:module";
    ${listen}
    await listen(createServer());
    const loaded = process.moduleLoadList.map((name) => name.replace("NativeModule ", ""));
    console.log(JSON.stringify(loaded.filter((name) => builtinModules.includes(name))));
    process.exit();`;
  const text = execFileSync(process.execPath, ["--input-type=module", "--eval", program], {
    encoding: "utf8",
  });
  return JSON.parse(text) as string[];
}
