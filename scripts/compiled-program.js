// A service that is upgraded twice. Its second process has been a successor and a predecessor: it writes what V8 has compiled,
// and prints the names of the files.
import { readdirSync, renameSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { buildSettings, compiledFile, readScript } from "../dist/platform/start-script.js";

const bundle = fileURLToPath(new URL("../dist/bundle/", import.meta.url));
const scripts = new Map();
const start = readdirSync(bundle).find((name) => /^start-\w+\.cjs$/.test(name));
const { Upgrader } = runScript(start, runScript);

const upg = new Upgrader({ controlSocket: join(bundle, "control.sock"), probation: 1 });
await upg.listen(createServer(), { port: 0, host: "127.0.0.1" });
await upg.ready();
// Without what it calls later: a start would take longer to read that than an upgrade to compile it.
if (upg.generation === 1) addCompiled(start);
await upg.waitForParent();
if (upg.generation === 2) await upg.stop();
else {
  const { settled } = await upg.upgrade({ force: true });
  if ((await settled) === "rolledBack") throw new Error("the next process has died");
  await upg.exit;
  if (upg.generation === 1) [...scripts.keys()].filter((name) => name !== start).forEach(addCompiled);
}

function runScript(name, given) {
  const path = join(bundle, name);
  // Node 20 takes the name in stack traces from the compiled code.
  const script = readScript(path, `handover/dist/bundle/${name}`);
  scripts.set(name, script);
  return script.runInThisContext()(path, given);
}

function addCompiled(name) {
  const file = compiledFile(join(bundle, name));
  const compiled = scripts.get(name).createCachedData();
  // In one step: a process that starts meanwhile would read a part.
  writeFileSync(`${file}.part`, Buffer.concat([buildSettings(), compiled]));
  renameSync(`${file}.part`, file);
  process.stdout.write(`${file}\n`);
}
