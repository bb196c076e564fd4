import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { createServer as createHttpServer } from "node:http";
import { createSecureServer, createServer as createHttp2Server } from "node:http2";
import { createServer as createHttpsServer } from "node:https";
import { join, resolve } from "node:path";
import { createServer as createTlsServer } from "node:tls";
import { expect, test } from "vitest";
import { isTlsServer } from "../../dist/platform/builtins.js";
import { Sandbox } from "../support/sandbox.js";
import { temporaryDirectory } from "../support/service.js";

/** Modules that handover needs at every start, beside those that `server.listen()` loads. */
const NEEDED = ["vm"];

test("a start with handover loads no module of Node that a start does not need", () => {
  const bare = modulesOf(
    "const listen = (server) => new Promise((up) => server.listen(0, '127.0.0.1', up));",
    SERVES,
  );
  const own = modulesOf(
    `
    import { Upgrader } from "handover";
    const upg = new Upgrader();
    const listen = async (server) => { await upg.listen(server, 0, "127.0.0.1"); await upg.ready(); };`,
    SERVES,
  );
  expect(own).toContain("vm");
  // What `server.listen()` loads for a program of several processes.
  expect(["cluster", "child_process", "dgram"].filter((name) => own.includes(name))).toEqual([]);
  expect(own.filter((name) => !bare.includes(name) && !NEEDED.includes(name))).toEqual([]);
});

test("a start asks for no more functions of the addon than those that it has at first", () => {
  const first = ["bindInet", "bindUnix", "listen", "duplicate", "close", "describe"];
  const ofStatus = ["send", "receive", "poll", "connectUnix", "isTerminal", "exitAtOnce"];
  expect(run(printAddon(""))).toEqual([...first, ...ofStatus, "addRest"]);
  // Right after it the process looks for listeners that handover does not know.
  const all = run(printAddon("await setImmediate();"));
  expect(all).toEqual(expect.arrayContaining([...first, "findListeners", "spawn", "Watcher"]));
  expect(all).not.toContain("addRest");
});

test("handover status loads no module of Node but vm, and the network only without the addon", () => {
  const directory = temporaryDirectory();
  const output = join(directory, "output");
  const status = (addon: string): string[] =>
    modulesOf(`
      import { openSync, closeSync } from "node:fs";
      import command from "./dist/bundle/cli/main.js";
      closeSync(2);
      openSync(${JSON.stringify(output)}, "a");
      process.env.HANDOVER_ADDON = ${JSON.stringify(addon)};
      await command.main(["status", "--control", "no/such/socket"]);`);
  expect(status("").filter((name) => name !== "vm")).toEqual(modulesOf(""));
  expect(status("no/such/addon")).toContain("net");
  expect(readFileSync(output, "utf8").match(/there is no such socket/g)).toHaveLength(2);
});

test("handover status finds the addon of its package without a search for the package", () => {
  const program = `
    const fs = require("node:fs");
    const asked = [];
    for (const name of ["existsSync", "readFileSync"]) {
      const original = fs[name];
      fs[name] = (path, ...rest) => (asked.push(String(path)), original(path, ...rest));
    }
    require("./dist/bundle/cli/main.js")
      .main(["status", "--control", "no/such/socket"])
      .then(() => console.log(asked.join("\\n")));`;
  const asked = execFileSync(process.execPath, ["-e", program], { stdio: "pipe" }).toString().split("\n");
  expect(asked).toContain(resolve("build/Release/handover.node"));
  expect(asked.filter((path) => path.endsWith("package.json"))).toEqual([]);
});

// The search finds every service of the user, those of other tests too: a sandbox has none.
test.skipIf(Sandbox.missing)(
  `handover status looks for the only service without a module for networks, and removes the socket of a dead one${Sandbox.why}`,
  async () => {
    const sandbox = await Sandbox.start();
    const stale = `/run/handover/${"0".repeat(16)}.sock`;
    const dies = `require("net").createServer().listen("${stale}", () => process.kill(process.pid, "SIGKILL"))`;
    await sandbox.run(`mkdir -m 700 /run/handover; node -e '${dies}' || test -S ${stale}`);
    await sandbox.write(
      "/srv/status.mjs",
      printModules(`
        import command from "${resolve("dist/bundle/cli/main.js")}";
        await command.main(["status"]);`),
    );
    const { stdout, stderr } = await sandbox.run("node status.mjs");
    expect(stderr).toContain("no service of this user was found");
    expect(JSON.parse(stdout)).not.toContain("net");
    expect((await sandbox.run("ls -A /run/handover")).stdout).toBe("");
  },
);

test("handover run loads neither HTTP, cryptography, the inspector nor perf_hooks", () => {
  const directory = temporaryDirectory();
  const program = join(directory, "fails.js");
  writeFileSync(program, "process.exit(1);");
  const files = ["--pid-file", join(directory, "pid"), "--control", join(directory, "control")];
  const words = ["run", "--workers", "1", "--restarts", "0", ...files, "--", program];
  const loaded = modulesOf(`
    import command from "./dist/bundle/cli/main.js";
    await command.main(${JSON.stringify(words)});`);
  expect(loaded).toContain("net");
  const heavy = ["http", "crypto", "inspector", "perf_hooks"].filter((name) => !modulesOf("").includes(name));
  expect(loaded.filter((name) => heavy.includes(name))).toEqual([]);
});

test("servers of tls, https and http2 with TLS are told from others", () => {
  const secure = [createTlsServer(), createHttpsServer(), createSecureServer()];
  const plain = [createHttpServer(), createHttp2Server()];
  expect(secure.map(isTlsServer)).toEqual([true, true, true]);
  expect(plain.map(isTlsServer)).toEqual([false, false]);
});

const SERVES = 'import { createServer } from "node:http"; await listen(createServer());';

/** A program that prints the functions that the addon has after its start. */
function printAddon(end: string): string {
  return `
    import { writeSync } from "node:fs";
    import { createServer } from "node:http";
    import { setImmediate } from "node:timers/promises";
    import { Upgrader } from "handover";
    const { dlopen } = process;
    let addon;
    process.dlopen = (module, ...rest) => { dlopen(module, ...rest); addon = module.exports; };
    const upg = new Upgrader();
    await upg.listen(createServer(), 0, "127.0.0.1");
    await upg.ready();
    ${end}
    writeSync(1, JSON.stringify(Object.keys(addon)));
    process.exit();`;
}

/** The modules that a program has loaded at its end. */
function modulesOf(...parts: string[]): string[] {
  return run(printModules(...parts));
}

/** What a program prints: JSON. */
function run(program: string): string[] {
  const words = ["--input-type=module", "--eval", program];
  return JSON.parse(execFileSync(process.execPath, words, { encoding: "utf8" })) as string[];
}

/** A program that prints the modules that it has loaded at its end. */
function printModules(...parts: string[]): string {
  return `
    import { writeSync } from "node:fs";
    import { builtinModules } from "node:module";
    ${parts.join("\n")}
    const loaded = process.moduleLoadList.map((name) => name.replace("NativeModule ", ""));
    writeSync(1, JSON.stringify(loaded.filter((name) => builtinModules.includes(name))));
    process.exit();`;
}
