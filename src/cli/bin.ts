import { join } from "node:path";
import { scriptsIn } from "../platform/start-script.js";
import type * as Main from "./main.js";

/*
 * Not imported: scripts/build.js makes `bin/handover.js` of it. To find and read another file first, which runs the script, would
 * take 0.7 ms of each command.
 */

// The next version of a supervisor must not be killed by a signal before it has loaded what handles it.
if (process.env["HANDOVER_STATE"] !== undefined) {
  const come: NodeJS.Signals[] = [];
  const listen = (name: NodeJS.Signals): void => void come.push(name);
  Object.assign(globalThis, { [Symbol.for("handover.signals")]: { come, listen } });
  for (const name of ["SIGHUP", "SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGWINCH"])
    process.on(name, listen);
}

/** The name of the script of `main.ts`. */
declare const SCRIPT: string;

const directory = join(__dirname, "..", "dist", "bundle", "cli");
const given = { require: (path: string): unknown => require(join(directory, path)) };
const command = scriptsIn(directory)(SCRIPT, given) as typeof Main;
// The files of other commands load `main.js`: each module is there once.
Object.assign(globalThis, { [Symbol.for("handover.command")]: command });

void command.main(process.argv.slice(2)).then(command.end);
