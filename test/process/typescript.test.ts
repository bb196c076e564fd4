import { mkdirSync, realpathSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { handover } from "../support/program.js";
import { Service, temporaryDirectory } from "../support/service.js";

const PACKAGE = fileURLToPath(new URL("../..", import.meta.url));
const REPORT = new URL("../fixtures/report.js", import.meta.url).href;

/** What tsx does: it compiles TypeScript in the thread of the hooks, and finds modules in a way of its own. */
const LOADER = 'import { register } from "node:module"; register("./hooks.js", import.meta.url);';
const HOOKS = `
  import { transformSync } from ${JSON.stringify(import.meta.resolve("esbuild"))};
  export const resolve = (name, context, next) =>
    next(name.startsWith("@app/") ? new URL(name.slice(5) + ".ts", import.meta.url).href : name, context);
  export async function load(url, context, next) {
    if (!url.endsWith(".ts")) return next(url, context);
    const { source } = await next(url, { ...context, format: "module" });
    const { code } = transformSync(String(source), { loader: "ts", sourcefile: url });
    return { format: "module", source: code, shortCircuit: true };
  }`;

/** TypeScript that prints the word of a module, which it imports by this name. */
const program = (name: string): string => `
  import { createServer } from "node:http";
  import { Upgrader } from "handover";
  import { word } from "${name}";
  import { report, say } from ${JSON.stringify(REPORT)};
  const upg: Upgrader = new Upgrader({ pidFile: "pid", probation: 50 });
  report(upg);
  await upg.listen(createServer(), { port: 0, host: "127.0.0.1" });
  await upg.ready();
  say(upg, "accepting", { word, execArgv: process.execArgv.join(" "), options: process.env.NODE_OPTIONS ?? "" });
  say(upg, "exited", { outcome: await upg.exit });`;

const THROWS = `interface Database { name: string }
export function open(): Database { throw new TypeError("no database"); }
open();`;

const strips = Boolean((process.features as { typescript?: unknown }).typescript);
const why = strips ? "" : " (skipped: this Node does not strip types)";

describe.each([
  ["a loader", ["--import", "./loader.js"], "@app/word", false, ""],
  ["Node's own type stripping", [], "./word.ts", !strips, why],
] as [string, string[], string, boolean, string][])(
  "TypeScript by %s",
  (by, args, name, skipped, because) => {
    test.skipIf(skipped)(
      `an upgrade of TypeScript by ${by} names the error of its entry file, and finds its modules${because}`,
      async () => {
        const home = realpathSync(temporaryDirectory());
        const write = (file: string, text: string): void => writeFileSync(join(home, file), text);
        mkdirSync(join(home, "node_modules"));
        symlinkSync(PACKAGE, join(home, "node_modules", "handover"));
        write("package.json", '{ "type": "module" }');
        write("loader.js", LOADER);
        write("hooks.js", HOOKS);
        write("word.ts", 'export const word: string = "first";');
        write("server.ts", program(name));
        const command = [process.execPath, ...args, "server.ts"];
        const service = Service.start("", { command, cwd: home, env: { PWD: home } });
        const first = await service.until("accepting");
        expect(first).toMatchObject({ word: "first", execArgv: args.join(" "), options: "" });

        for (const [text, error] of [
          ["const a: = ;", /(Syntax|Transform|)Error.*: .*=/],
          [program("./gone.ts"), /\[ERR_MODULE_NOT_FOUND\]: Cannot find module '.*gone\.ts'/],
          [program("gone"), /\[ERR_MODULE_NOT_FOUND\]: Cannot find package 'gone'/],
          [THROWS, /TypeError: no database \(at file:.*server\.ts:2:\d+\)/],
        ] as const) {
          write("server.ts", text);
          const { code, stderr } = await handover("upgrade", "--pid-file", join(home, "pid"));
          expect([code, stderr]).toEqual([1, expect.stringContaining("its last uncaught error: ")]);
          expect(stderr.slice(stderr.indexOf("its last uncaught error: "))).toMatch(error);
        }

        write("server.ts", program(name));
        write("word.ts", 'export const word: string = "second";');
        expect(await handover("upgrade", "--pid-file", join(home, "pid"))).toMatchObject({
          code: 0,
          stderr: "",
        });
        const { execArgv, options } = first;
        expect(service.accepting).toMatchObject({ generation: 1, word: "second", execArgv, options });
      },
    );
  },
);
