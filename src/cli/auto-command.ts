import { Command } from "commander";
import { autoOption } from "../supervisor/auto-option.js";
import { writeText } from "./output.js";

/** `handover auto` */
export function autoCommand(): Command {
  return new Command("auto")
    .summary("print the option of Node that upgrades any server")
    .description(
      "Prints the option of Node that lets handover take over the servers of a program that does not know of it. The option " +
        "has an absolute URL, so that it works in every directory.",
    )
    .addHelpText("after", EXAMPLES)
    .action(() => writeText(autoOption()));
}

const EXAMPLES = `
Examples:
  $ node "$(handover auto)" server.js
  $ export NODE_OPTIONS="$(handover auto)"      for every Node of this shell
  $ handover run --auto -- next start           several workers

Exit codes: 0 printed, 2 wrong usage.`;
