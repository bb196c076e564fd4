// Runs the command `handover` with the words that it is given, and then writes what V8 has compiled for it.
import { createRequire } from "node:module";
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { readScript } from "../dist/platform/start-script.js";
import { writeCompiled } from "./write-compiled.js";

const directory = fileURLToPath(new URL("../dist/bundle/cli/", import.meta.url));
const name = readdirSync(directory).find((one) => /^main-\w+\.cjs$/.test(one));
const script = readScript(directory + name, `handover/dist/bundle/cli/${name}`);
const { main } = script.runInThisContext()(directory + name, { require: createRequire(directory) });
process.exitCode = await main(process.argv.slice(2));
writeCompiled(directory + name, script);
