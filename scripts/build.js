// Compiles src/ to dist/.
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const dist = join(root, "dist");
const entries = ["index.js", "websocket/index.js", "metrics/index.js", "testing/index.js"];

rmSync(dist, { recursive: true, force: true });
compile();
addCommonJs();

/** By the compiler's path: two versions of TypeScript are installed, and `.bin/tsc` may be either. */
function compile() {
  const tsc = join(root, "node_modules", "typescript", "bin", "tsc");
  execFileSync(process.execPath, [tsc, "-p", join(root, "tsconfig.build.json")], { stdio: "inherit" });
}

/**
 * Makes the entries for CommonJS, which load the same ES modules, as every supported Node can. TypeScript before its mode
 * `nodenext` does not know that: it needs declarations that belong to CommonJS.
 */
function addCommonJs() {
  const cjs = join(dist, "cjs");
  const declarations = readdirSync(dist, { recursive: true }).filter((name) => name.endsWith(".d.ts"));
  for (const name of declarations) {
    mkdirSync(dirname(join(cjs, name)), { recursive: true });
    copyFileSync(join(dist, name), join(cjs, name));
  }
  for (const name of entries) {
    const target = relative(dirname(join(cjs, name)), join(dist, name));
    writeFileSync(join(cjs, name), `module.exports = require(${JSON.stringify(target)});\n`);
  }
  writeFileSync(join(cjs, "package.json"), '{ "type": "commonjs" }\n');
}
