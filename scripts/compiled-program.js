// A service that is upgraded twice, writes what V8 has compiled, and prints the names of the files. Its first process writes what
// a start calls. The second one begins with that, tells the command its status, and has been a successor and a predecessor: it
// writes all.
import { execFile } from "node:child_process";
import { readdirSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { readCompiled, readScript } from "../dist/platform/start-script.js";
import { writeCompiled } from "./write-compiled.js";

const bundle = fileURLToPath(new URL("../dist/bundle/", import.meta.url));
const scripts = new Map();
const start = readdirSync(bundle).find((name) => /^start-\w+\.cjs$/.test(name));
const { Upgrader } = runScript(start, runScript);

const upg = new Upgrader({ probation: 1 });
await upg.listen(createServer(), { port: 0, host: "127.0.0.1" });
await upg.ready();
// Without what it calls later: a start would take longer to read that than an upgrade to compile it.
if (upg.generation < 2) addCompiled(start);
if (upg.generation === 1) {
  const command = fileURLToPath(new URL("compiled-command.js", import.meta.url));
  const directory = join(process.env.XDG_RUNTIME_DIR, "handover");
  const control = join(directory, readdirSync(directory)[0]);
  await promisify(execFile)(process.execPath, [command, "status", "--control", control]);
}
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
  const script = readScript(path, `handover/dist/bundle/${name}`, readCompiled(path));
  scripts.set(name, script);
  return script.runInThisContext()(path, given);
}

function addCompiled(name) {
  process.stdout.write(`${writeCompiled(join(bundle, name), scripts.get(name))}\n`);
}
