// Builds dist/ from src/: the modules, one by one, with their declarations, which the tests of single modules load; and the
// package that programs import, a few files in dist/bundle/, as a start reads one file faster than a hundred.
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = fileURLToPath(new URL("..", import.meta.url));
const dist = join(root, "dist");
const bundle = join(dist, "bundle");

/** What programs import, by the names of the bundled files. */
const entries = {
  index: "index",
  ws: "websocket/index",
  metrics: "metrics/index",
  testing: "testing/index",
};

rmSync(dist, { recursive: true, force: true });
compile();
addTypes(join(dist, "types"));
addCommonJs(join(dist, "cjs"));
await bundleAll();

/** By the compiler's path: two versions of TypeScript are installed, and `.bin/tsc` may be either. */
function compile() {
  const tsc = join(root, "node_modules", "typescript", "bin", "tsc");
  execFileSync(process.execPath, [tsc, "-p", join(root, "tsconfig.build.json")], { stdio: "inherit" });
}

/** Copies the declarations that the entries need. */
function addTypes(directory) {
  for (const name of neededDeclarations()) {
    mkdirSync(dirname(join(directory, name)), { recursive: true });
    copyFileSync(join(dist, name), join(directory, name));
  }
}

/**
 * Makes the entries for CommonJS, which load the same ES modules, as every supported Node can. TypeScript before its mode
 * `nodenext` does not know that: it needs declarations that belong to CommonJS.
 */
function addCommonJs(directory) {
  addTypes(directory);
  for (const [name, source] of Object.entries(entries)) {
    const file = join(directory, `${source}.js`);
    const target = relative(dirname(file), join(bundle, `${name}.js`));
    writeFileSync(file, `module.exports = require(${JSON.stringify(target)});\n`);
  }
  writeFileSync(join(directory, "package.json"), '{ "type": "commonjs" }\n');
}

/** The declarations of the entries, and all that they import. */
function neededDeclarations() {
  const needed = new Set(Object.values(entries).map((source) => `${source}.d.ts`));
  for (const name of needed) {
    for (const [, path] of readFileSync(join(dist, name), "utf8").matchAll(/ from "(\.[^"]+)\.js"/g)) {
      needed.add(join(dirname(name), `${path}.d.ts`));
    }
  }
  return needed;
}

/** Code that several entries use is in a chunk that all of them import, so that a process has each module once. */
async function bundleAll() {
  const sources = { ...entries, cli: "cli/main" };
  await build({
    absWorkingDir: root,
    entryPoints: Object.fromEntries(
      Object.entries(sources).map(([name, source]) => [name, join("src", `${source}.ts`)]),
    ),
    outdir: bundle,
    bundle: true,
    splitting: true,
    format: "esm",
    platform: "node",
    target: "node20.19",
    packages: "external",
    // The sources are in the package.
    sourcemap: true,
    sourcesContent: false,
    logLevel: "warning",
  });
}
