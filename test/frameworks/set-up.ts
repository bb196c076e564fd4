import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";

const HERE = resolve("test/frameworks");
const PACKAGES = join(HERE, "node_modules");

/** What a framework builds, and by which command of a package. */
const BUILDS = [
  { app: "nest", output: "dist", words: ["typescript/bin/tsc"] },
  { app: "next", output: ".next", words: ["next/dist/bin/next", "build"] },
  { app: "nitro", output: ".output", words: ["nitropack/dist/cli/index.mjs", "build"] },
  { app: "react-router", output: "build", words: ["@react-router/dev/bin.js", "build"] },
] as const;

/** Directories that a framework writes. */
const WRITTEN =
  /(?:^|\/)(?:dist|build|\.next|\.output|\.nitro|\.react-router|next-env\.d\.ts|made-from)(?:\/|$)/;

/** Installs the frameworks, and builds the programs, unless that was done from the same files. */
export default function setUp(): void {
  const lock = digestOf([join(HERE, "package-lock.json")]);
  once(PACKAGES, lock, () => {
    run("npm", ["ci", "--no-audit", "--no-fund", "--loglevel=error"], HERE);
    // Not a dependency: the lockfile would have to follow every change of this package.
    symlinkSync("../../..", join(PACKAGES, "handover"));
  });
  for (const { app, output, words } of BUILDS) {
    const directory = join(HERE, "apps", app);
    const [program, ...args] = words;
    once(join(directory, output), lock + digestOf(sourcesOf(directory)), () => {
      rmSync(join(directory, output), { recursive: true, force: true });
      run(process.execPath, [join(PACKAGES, program), ...args], directory);
    });
  }
}

/** Makes a directory, which then says from what it was made. */
function once(directory: string, source: string, make: () => void): void {
  const file = join(directory, "made-from");
  if (existsSync(file) && readFileSync(file, "utf8") === source) return;
  make();
  writeFileSync(file, source);
}

/** What it prints is in the error, if there is one. */
function run(command: string, args: string[], cwd: string): void {
  // The variable of vitest says that this is a test, and the frameworks would build another thing.
  const env = { ...process.env, NODE_ENV: "production" };
  execFileSync(command, args, { cwd, env, stdio: ["ignore", "pipe", "pipe"], maxBuffer: 2 ** 26 });
}

function sourcesOf(directory: string): string[] {
  const names = readdirSync(directory, { recursive: true, encoding: "utf8" }).toSorted();
  return names
    .filter((name) => /\.\w+$/.test(name) && !WRITTEN.test(name))
    .map((name) => join(directory, name));
}

function digestOf(files: readonly string[]): string {
  const hash = createHash("sha256");
  for (const file of files) hash.update(file).update("\0").update(readFileSync(file)).update("\0");
  return hash.digest("hex");
}
