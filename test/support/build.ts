import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** What `dist/` is made from, with the versions of the compilers. */
const SOURCES = [
  "src",
  "scripts",
  "tsconfig.json",
  "tsconfig.build.json",
  "package.json",
  "package-lock.json",
];
/** The digest of the sources from which the tests have built `dist/`. A build removes it with the rest. */
const BUILT = join("dist", "built-from");

/**
 * Programs under test load the built package: build it, so that no test runs on yesterday's code. A package that is built from
 * these sources is left alone: another run of tests may use it.
 */
export default function build(): void {
  if (!existsSync("build/Release/handover.node")) run("build:native");
  const digest = digestOfSources();
  if (existsSync(BUILT) && readFileSync(BUILT, "utf8") === digest) return;
  run("build:ts");
  writeFileSync(BUILT, digest);
}

function run(script: string): void {
  execFileSync("npm", ["run", "--silent", script], { stdio: "inherit" });
}

function digestOfSources(): string {
  const hash = createHash("sha256");
  for (const file of SOURCES.flatMap(filesOf))
    hash.update(`${file}\0`).update(readFileSync(file)).update("\0");
  return hash.digest("hex");
}

function filesOf(path: string): string[] {
  if (path.endsWith(".json")) return [path];
  const entries = readdirSync(path, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => join(parentPath, name))
    .toSorted();
}
