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

test("the package has types, which hold without skipLibCheck", () => {
  writeFileSync(
    join(project, "consumer.ts"),
    `import { createServer } from "node:http";
    import { HandoverError, Upgrader, type ErrorCode, type RefusalCode, type UpgradeResult } from "handover";
    const upg = new Upgrader({ pidFile: "app.pid", signals: { upgrade: "SIGUSR2" } });
    upg.on("failed", ({ error }) => { const code: ErrorCode | RefusalCode = error.code; return code; });
    const address = await upg.listen(createServer(), { port: 8080, name: "main" });
    // @ts-expect-error: an address is not a number
    const wrong: number = address;
    const result: UpgradeResult = await upg.upgrade();
    export const how: "confirmed" | "rolledBack" = await result.settled;
    export { HandoverError, wrong };`,
  );
  writeFileSync(join(project, "package.json"), '{ "type": "module" }');
  const options = {
    module: "nodenext",
    target: "es2023",
    strict: true,
    noEmit: true,
    types: ["node"],
    typeRoots: [join(ROOT, "node_modules", "@types")],
  };
  writeFileSync(
    join(project, "tsconfig.json"),
    JSON.stringify({ compilerOptions: options, include: ["consumer.ts"] }),
  );
  expect(run(join(ROOT, "node_modules", ".bin", "tsc"), ["-p", "."])).toBe("");
});

test("the package contains the compiled files of src, and no tests", () => {
  const files = filesOf(installed);
  expect(
    files.filter((name) => /test|fixture|^bench/.test(name) && !name.startsWith("dist/testing")),
  ).toEqual([]);
  const compiled = files.filter((name) => /^dist\/.*\.js$/.test(name));
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
