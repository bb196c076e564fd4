import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const project = mkdtempSync(join(tmpdir(), "handover-consumer-"));
const installed = join(project, "node_modules", "handover");

/** Of a project that has installed the package, as far as that is possible without a registry. */
beforeAll(() => {
  run(process.execPath, ["native/prebuild.js"], ROOT);
  run("npm", ["pack", "--silent", "--ignore-scripts", "--pack-destination", project], ROOT);
  const tarball = readdirSync(project).find((name) => name.endsWith(".tgz"))!;
  mkdirSync(installed, { recursive: true });
  run("tar", ["-xzf", tarball, "-C", installed, "--strip-components", "1"]);
  for (const name of ["commander", "node-addon-api"]) {
    symlinkSync(join(ROOT, "node_modules", name), join(project, "node_modules", name));
  }
});
afterAll(() => rmSync(project, { recursive: true }));

test.each([
  ["import", "consumer.mjs", 'import { HandoverError, Upgrader } from "handover";'],
  ["require()", "consumer.cjs", 'const { HandoverError, Upgrader } = require("handover");'],
])("the package works by %s", (_, name, load) => {
  const program = `${load}
    const upg = new Upgrader();
    const refused = new HandoverError("ERR_OPTION", "no");
    upg.ready().then(() => upg.stop()).then(() => console.log(upg.state, refused.code));`;
  writeFileSync(join(project, name), program);
  expect(run(process.execPath, [name])).toBe("exited ERR_OPTION\n");
});

/** The compiler, its resolution and its modules, and the type of the consumer. Only TypeScript before 7 has `node10`. */
const RESOLUTIONS = [
  ["typescript-node10", "node10", "commonjs", "commonjs"],
  ["typescript-node10", "node10", "esnext", "module"],
  ["typescript-node10", "node16", "node16", "commonjs"],
  ["typescript-node10", "node16", "node16", "module"],
  ["typescript-node10", "nodenext", "nodenext", "commonjs"],
  ["typescript-node10", "nodenext", "nodenext", "module"],
  ["typescript-node10", "bundler", "preserve", "module"],
  ["typescript", "node16", "node16", "commonjs"],
  ["typescript", "nodenext", "nodenext", "commonjs"],
  ["typescript", "nodenext", "nodenext", "module"],
  ["typescript", "bundler", "preserve", "module"],
] as const;

test.each(RESOLUTIONS)(
  "every entry has types for %s with the resolution %s and the modules %s in a consumer of the type %s",
  (compiler, moduleResolution, module, type) => {
    const directory = join(project, "types", `${compiler}-${moduleResolution}-${type}`);
    mkdirSync(directory, { recursive: true });
    writeFileSync(join(directory, "package.json"), JSON.stringify({ type }));
    writeFileSync(join(directory, "consumer.ts"), CONSUMER);
    const compilerOptions = {
      module,
      moduleResolution,
      target: "es2022",
      strict: true,
      // The slower compiler checks only what the consumer uses.
      skipLibCheck: compiler === "typescript-node10",
      types: ["node"],
      typeRoots: [join(ROOT, "node_modules", "@types")],
    };
    writeFileSync(
      join(directory, "tsconfig.json"),
      JSON.stringify({ compilerOptions, files: ["consumer.ts"] }),
    );
    expect(run(process.execPath, [join(ROOT, "node_modules", compiler, "bin", "tsc")], directory)).toBe("");
    expect(run(process.execPath, ["consumer.js"], directory)).toBe(
      "ready function function ERR_OPTION true\n",
    );
  },
);

/** Uses every entry, and a wrong type of each, which would pass if the types were not found. */
const CONSUMER = `
import { createServer } from "node:http";
import { HandoverError, Upgrader, type ErrorCode, type RefusalCode, type UpgradeResult } from "handover";
import { prometheus } from "handover/metrics";
import { Upgrader as StandIn } from "handover/testing";
import { webSockets } from "handover/ws";

export async function upgrade(upg: Upgrader): Promise<void> {
  upg.on("failed", ({ error }) => {
    const code: ErrorCode | RefusalCode = error.code;
    return code;
  });
  const address = await upg.listen(createServer(), { port: 8080, name: "main" });
  // @ts-expect-error: an address is not a number
  const wrong: number = address;
  const result: UpgradeResult = await upg.upgrade();
  const how: "confirmed" | "rolledBack" = await result.settled;
  console.log(wrong, how);
  // @ts-expect-error: there is no such option
  new Upgrader({ pidfile: "app.pid" });
  // @ts-expect-error: the version is missing
  webSockets(upg, {} as never, {});
  // @ts-expect-error: the registry is missing
  prometheus(upg);
  // @ts-expect-error: it is a number
  const no: string = new StandIn().generation;
}

async function main(): Promise<void> {
  const upg = new StandIn();
  await upg.ready();
  const { code } = new HandoverError("ERR_OPTION", "no");
  const refused = await upg.listen(createServer(), { port: -1 }).catch((error: unknown) => error);
  console.log(upg.state, typeof webSockets, typeof prometheus, code, refused instanceof HandoverError);
  await upg.stop();
}

void main();
`;

test("the package contains the compiled files of src, and no tests", () => {
  const files = filesOf(installed);
  expect(
    files.filter((name) => /test|fixture|^bench|^scripts/.test(name) && !/^dist\/(cjs\/)?testing/.test(name)),
  ).toEqual([]);
  const compiled = files.filter((name) => /^dist\/(?!cjs\/).*\.js$/.test(name));
  const sources = filesOf(join(ROOT, "src")).map((name) => `dist/${name.replace(/\.ts$/, ".js")}`);
  expect(compiled.toSorted()).toEqual(sources.toSorted());
});

test("the package contains the sources of its addon, and has no install script", () => {
  const files = filesOf(installed);
  for (const name of ["LICENSE", "package.json", "binding.gyp", "native/addon.cc"]) {
    expect(files).toContain(name);
  }
  const script =
    "const { scripts, gypfile } = require('./package.json'); console.log(scripts.install, gypfile)";
  expect(run(process.execPath, ["-e", script], installed)).toBe("undefined false\n");
});

function filesOf(directory: string): string[] {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(directory.length).replace(/^\//, ""));
}

function run(command: string, args: string[], cwd = project): string {
  return execFileSync(command, args, { cwd, encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });
}
