// Builds dist/ from src/: the modules, one by one, with their declarations, which the tests of single modules load; and the
// package that programs import, a few files in dist/bundle/, as a start reads one file faster than a hundred.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { basename, dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { build, transform } from "esbuild";
import { splitLater } from "./later.js";

const root = fileURLToPath(new URL("..", import.meta.url));
const sources = join(root, "src");
const dist = join(root, "dist");
const outdir = join(dist, "bundle");

/** What programs import, by the names of the bundled files. */
const entries = {
  index: "index",
  ws: "websocket/index",
  socketio: "socketio/index",
  metrics: "metrics/index",
  testing: "testing/index",
  supervisor: "supervisor/index",
  auto: "auto/index",
  postgres: "postgres/index",
  kubernetes: "kubernetes/index",
  etcd: "etcd/index",
};

/** What `auto` loads with the first server that it takes over. */
const PARTS = { takeover: "auto/takeover" };

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
    const target = relative(dirname(file), join(outdir, `${name}.js`));
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

/**
 * Bundles the entries, once for Node and once for bundlers, and the command. Every entry imports the modules of `index`, so that
 * esbuild puts these into one chunk: a process has each module once, whichever entries it imports.
 */
async function bundleAll() {
  // A supervisor is a process of its own, and stays small: it shares no module with a program.
  const names = Object.keys(entries).filter((name) => name !== "supervisor" && name !== "auto");
  const { options, text, withoutLater } = splitLater(sources);
  const files = Object.fromEntries(
    [...names, ...Object.keys(PARTS), "later"].map((name) => [name, `entry:${name}`]),
  );
  const plugins = [entryFiles(text), builtinModules(withoutLater)];
  const { outputFiles } = await bundle(files, { ...options, plugins, write: false });
  mkdirSync(outdir, { recursive: true });
  const loader = await bundle(
    { loader: join(sources, "platform", "start-script.ts") },
    { plugins: [builtinModules()], write: false, sourcemap: false },
  );
  for (const [name, content] of withScripts(outputFiles, loader.outputFiles[0].text))
    writeFileSync(join(outdir, name), content);
  // A bundler would not find the file that is loaded later: it gets everything in one.
  const whole = Object.fromEntries(names.map((name) => [name, files[name]]));
  await bundle(whole, { outdir: join(outdir, "whole"), plugins: [entryFiles(""), builtinModules()] });
  await bundle({ supervisor: sourceFile("supervisor") }, { plugins: [builtinModules()] });
  await bundle({ auto: sourceFile("auto") }, { plugins: [partsOfPackage, builtinModules()] });
  await bundleCommand(join(outdir, "cli"), loader.outputFiles[0].text);
}

/**
 * Makes scripts of the chunk that all entries share and of what is loaded later, as V8 takes compiled code for scripts only, and
 * lets `index.js` run the first, which runs the second. The other entries get what the chunk has from a member of `Upgrader`:
 * `index.js` exports only what programs import.
 *
 * @param loader the text of the module `start-script`
 * @returns names and contents of the files
 */
function withScripts(outputFiles, loader) {
  const files = new Map(outputFiles.map(({ path, text }) => [basename(path), text]));
  const chunks = importsOf(files.get("index.js"));
  const [chunk] = chunks;
  const [body, shared] = splitExports(files.get(chunk));
  if (chunks.length !== 1 || importsOf(body).length > 0) throw new Error("index.js needs several files");
  const [laterBody, laterNames] = splitExports(files.get("later.js"));
  if (importsOf(laterBody).join() !== chunk) throw new Error("later.js needs other files than the start");
  const [statement, given] = /^import\{([^}]*)\}from"[^"]+";/.exec(laterBody);
  const addScript = (kind, text, mapped) => {
    if (text.includes("import(")) throw new Error("a script cannot import()");
    // Both a module of CommonJS and a script whose value is the function. No source has a name with a dollar.
    const script =
      `(typeof module==="object"?module:{}).exports=function(__filename,$given){"use strict";` +
      `${text.replaceAll("import.meta.url", FILE_URL)}};\n`;
    const name = nameOf(kind, script);
    files.set(name, `${script}//# sourceMappingURL=${name}.map\n`);
    files.set(`${name}.map`, files.get(`${mapped}.map`));
    return name;
  };
  // On as many lines, for the source map.
  const lines = statement.replaceAll(/[^\n]/g, "");
  const needed = given.replaceAll("\n", "").replaceAll(" as ", ":");
  const exported = splitExports(files.get("index.js"))[1].map(([, name]) => name);
  const later = addScript(
    "later",
    `const{${needed}}=$given;${lines}${laterBody.slice(statement.length)}return{${members(laterNames)}}`,
    "later.js",
  );
  for (const name of ["later.js", "later.js.map"]) files.delete(name);
  const start = addScript(
    "start",
    // An object with all members takes long to make: what no program imports is in one that only other files need.
    `${body}function $shared(){return{${members(shared)}}}function runLater(){return $given("${later}",$shared())}` +
      `return{${members(shared.filter(([, name]) => exported.includes(name)))},$shared}`,
    chunk,
  );
  const internals = 'Symbol.for("handover.internals")';
  const [run] = splitExports(loader);
  files.set(
    "index.js",
    `${run}const runScript=scriptsIn(import.meta.dirname);const start=runScript("${start}",runScript);\n` +
      `Object.defineProperty(start.Upgrader,${internals},{value:start.$shared});\n` +
      `export const{${exported}}=start;\n//# sourceMappingURL=index.js.map\n`,
  );
  files.set(
    chunk,
    `import{Upgrader as owner}from"./index.js";\nexport const{${shared.map(([, name]) => name)}}=owner[${internals}]();\n` +
      `//# sourceMappingURL=${chunk}.map\n`,
  );
  for (const name of ["index.js", chunk]) {
    files.set(`${name}.map`, NO_SOURCES);
  }
  return files;
}

/** The name is of this text alone: V8 would run compiled code of any text that has the same length. */
function nameOf(kind, script) {
  return `${kind}-${createHash("sha256").update(script).digest("hex").slice(0, 8)}.cjs`;
}

/** The source map of a file that only runs a script. */
const NO_SOURCES = JSON.stringify({ version: 3, sources: [], names: [], mappings: "" });

/** The URL of a script, in its text. */
const FILE_URL = 'process.getBuiltinModule("node:url").pathToFileURL(__filename).href';

/** Members of an object literal, by pairs of local and exported names. */
function members(pairs) {
  return pairs.map(([local, name]) => (local === name ? name : `${name}:${local}`));
}

/** The other files of the bundle that a file imports. */
function importsOf(text) {
  return [...text.matchAll(/(?:from|import)"\.\/([^"]+)"/g)].map(([, name]) => name);
}

/** The text of a module before its exports, and their local and exported names. */
function splitExports(text) {
  const at = text.lastIndexOf("export{");
  const [, names] = /^export\{([^}]*)\}/.exec(text.slice(at));
  const pairs = names.split(",").map((one) => one.trim().split(/\s+as\s+/));
  return [text.slice(0, at), pairs.map((pair) => [pair[0], pair.at(-1)])];
}

/**
 * Bundles the command as CommonJS: to load an ES module takes Node several milliseconds more. As esbuild splits only ES modules, its
 * files are converted afterwards. What every command needs is a script, as V8 takes compiled code for scripts only.
 *
 * @param loader the text of the module `start-script`
 */
async function bundleCommand(directory, loader) {
  const main = join(sources, "cli", "main.ts");
  // What is loaded only if it runs imports all of `main`, so that esbuild puts that into one chunk.
  const withMain = (path, text) =>
    /^(?:cli\/(?:[\w-]+\/|auto-command|only-service|program)|supervisor\/(?:index|state)\.ts)/.test(
      relative(sources, path),
    )
      ? `${text}import ${JSON.stringify(main)};`
      : text;
  const { outputFiles } = await bundle(
    { main },
    {
      outdir: directory,
      packages: "bundle",
      external: ["handover"],
      plugins: [builtinModules(withMain)],
      sourcemap: "inline",
      write: false,
    },
  );
  mkdirSync(directory, { recursive: true });
  for (const { path, text } of inMain(outputFiles)) {
    const isMain = basename(path) === "main.js";
    const [body, exported] = isMain ? splitExports(text) : [text];
    const { code, map } = await transform(body, {
      format: "cjs",
      platform: "node",
      target: "node20.19",
      sourcefile: basename(path),
      sourcemap: "external",
      sourcesContent: false,
      // A supervisor keeps the text in memory.
      minifyWhitespace: true,
      minifySyntax: true,
      // As it would load the file as an ES module.
      supported: { "dynamic-import": false },
      logOverride: { "empty-import-meta": "silent" },
    });
    if (isMain) await addMainScript(directory, { code, map, exported, run: splitExports(loader)[0] });
    else writeWithMap(path, code, map);
  }
  writeFileSync(join(directory, "package.json"), '{ "type": "commonjs" }\n');
  // Its license asks for that.
  copyFileSync(join(root, "node_modules", "commander", "LICENSE"), join(directory, "commander.LICENSE"));
}

/** Makes a script of the text of `main.js`, and lets it and `bin/handover.js` run that. */
async function addMainScript(directory, { code, map, exported, run }) {
  // Its exports are the values, as nothing imports it before it has run: a getter for each would take a fifth of the compiled code.
  const script =
    `(typeof module==="object"?module:{}).exports=function(__filename,given){"use strict";const{require}=given;\n` +
    `${code}return{${members(exported)}}};\n`;
  const name = nameOf("main", script);
  const { mappings, ...rest } = JSON.parse(map);
  // The text begins in the second line.
  writeWithMap(join(directory, name), script, JSON.stringify({ ...rest, mappings: `;${mappings}` }));
  const runs = `${run}module.exports=globalThis[Symbol.for("handover.command")]??scriptsIn(__dirname)("${name}",{require});\n`;
  writeWithMap(join(directory, "main.js"), runs, NO_SOURCES);
  // In CommonJS, as the directory's package.json says: to load an ES module takes several milliseconds more.
  const { outputFiles } = await bundle(
    { handover: join(sources, "cli", "bin.ts") },
    {
      banner: { js: "#!/usr/bin/env node" },
      define: { SCRIPT: JSON.stringify(name) },
      format: "cjs",
      splitting: false,
      plugins: [builtinModules()],
      sourcemap: false,
      write: false,
    },
  );
  writeFileSync(join(root, "bin", "handover.js"), outputFiles[0].text, { mode: 0o755 });
}

function writeWithMap(path, code, map) {
  writeFileSync(path, `${code}//# sourceMappingURL=${basename(path)}.map\n`);
  writeFileSync(`${path}.map`, map);
}

/** `main.js` becomes the chunk that it loads, as a start reads one file faster than two. The others load what they share from it. */
function inMain(outputFiles) {
  const main = outputFiles.find(({ path }) => basename(path) === "main.js");
  const [chunk, ...others] = importsOf(main.text);
  const files = outputFiles.filter((one) => one !== main);
  if (others.length > 0 || importsOf(files.find(({ path }) => basename(path) === chunk).text).length > 0)
    throw new Error("main.js needs several files");
  return files.map(({ path, text }) => ({
    path: basename(path) === chunk ? main.path : path,
    text: text.replaceAll(`"./${chunk}"`, '"./main.js"'),
  }));
}

/** `handover/auto` is loaded in every process of a shell: it loads the rest of the package with the first server. */
const partsOfPackage = {
  name: "parts-of-package",
  setup({ onResolve }) {
    onResolve({ filter: /^\.\/takeover\.js$/ }, ({ path }) => ({ path, external: true }));
  },
};

const sourceFile = (name) => join(sources, `${{ ...entries, ...PARTS }[name]}.ts`);
const sourceOf = (name) => JSON.stringify(sourceFile(name));

/** @param later the text of the entry of that name */
function entryFiles(later) {
  const textOf = (name) => (name === "later" ? later : `export * from ${sourceOf(name)};`);
  return {
    name: "entries",
    setup({ onResolve, onLoad }) {
      onResolve({ filter: /^entry:/ }, ({ path }) => ({
        path: path.slice("entry:".length),
        namespace: "entry",
      }));
      onLoad({ filter: /^/, namespace: "entry" }, ({ path }) => ({
        contents: `import ${sourceOf("index")};${textOf(path)}`,
        resolveDir: root,
      }));
    },
  };
}

/** Defines `takeBuiltin`. */
const TAKE_BUILTIN = join(sources, "platform", "take-builtin.ts");

async function bundle(entryPoints, { inject = [], ...options }) {
  return build({
    absWorkingDir: root,
    entryPoints,
    outdir,
    bundle: true,
    splitting: true,
    format: "esm",
    platform: "node",
    target: "node20.19",
    packages: "external",
    inject: [TAKE_BUILTIN, ...inject],
    // Without comments and blanks V8 reads a third less. Short lines, as a stack trace without source maps names them.
    minifyWhitespace: true,
    lineLimit: 120,
    // The sources are in the package.
    sourcemap: true,
    sourcesContent: false,
    logLevel: "warning",
    ...options,
  });
}

/**
 * Takes Node's own modules from Node, without the ES module that an import makes of each: all their members, also those that
 * load yet other modules, would be read at every start.
 */
const builtinModules = (edit = (_, text) => text) => ({
  name: "builtin-modules",
  setup({ onLoad }) {
    onLoad({ filter: /\/src\/.*\.ts$/ }, async ({ path }) => {
      const text = edit(path, await readFile(path, "utf8"));
      return { contents: text.replaceAll(IMPORT_OF_BUILTIN, takeFromNode), loader: "ts" };
    });
    // An ES module has no require(). Commander needs to start processes only for commands in files of their own.
    onLoad({ filter: /\/commander\/.*\.js$/ }, async ({ path }) => {
      const text = await readFile(path, "utf8");
      const contents = text
        .replace("const childProcess = require('node:child_process');\n", "\n")
        .replaceAll("childProcess.", "require('node:child_process').")
        .replaceAll(/require\('(node:\w+)'\)/g, "globalThis.process.getBuiltinModule('$1')");
      return { contents };
    });
  },
});
const IMPORT_OF_BUILTIN = /^import \{([^}]*)\} from ("node:[^"]+");$/gm;

/** `import { a, type B, c as d } from "node:x";` as `const { a, c: d } = takeBuiltin("node:x");`, on as many lines. */
function takeFromNode(text, names, module) {
  const values = names.split(",").map((name) => name.trim());
  const taken = values.filter((name) => name !== "" && !name.startsWith("type "));
  const lines = "\n".repeat(text.split("\n").length - 1);
  return `const { ${taken.join(", ").replaceAll(" as ", ": ")} } = takeBuiltin(${module});${lines}`;
}

rmSync(dist, { recursive: true, force: true });
compile();
addTypes(join(dist, "types"));
addCommonJs(join(dist, "cjs"));
await bundleAll();
execFileSync(process.execPath, [join(root, "scripts", "compile-start.js")], { stdio: "inherit" });
