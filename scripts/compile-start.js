// Adds V8's compiled code of a start to dist/bundle/, for the version of Node that runs this script: of the functions that a start
// calls. The build runs it. A package that is to start as fast with other versions needs a run with each of them.
import { readdirSync, renameSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Upgrader } from "../dist/bundle/index.js";
import { buildSettings, compiledFile, startScript } from "../dist/platform/start-script.js";

const bundle = fileURLToPath(new URL("../dist/bundle/", import.meta.url));
const path = join(
  bundle,
  readdirSync(bundle).find((name) => /^start-\w+\.cjs$/.test(name)),
);
const upg = new Upgrader({ controlSocket: join(bundle, "control.sock") });
await upg.listen(createServer(), { port: 0, host: "127.0.0.1" });
await upg.ready();
// V8 knows a text that it has compiled, with the functions that were called since.
const compiled = startScript(path).createCachedData();
await upg.stop();
const file = compiledFile(path);
// In one step: a process that starts meanwhile would read a part.
writeFileSync(`${file}.part`, Buffer.concat([buildSettings(), compiled]));
renameSync(`${file}.part`, file);
