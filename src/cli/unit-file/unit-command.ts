import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { Command, InvalidArgumentError, Option } from "commander";
import { HandoverError, reasonOf } from "../../errors.js";
import { writeJson, writeLines, writeText } from "../output.js";
import { milliseconds, wholeNumber } from "../process-options.js";
import { planUnit, UNIT_TYPES, type Request } from "./plan.js";
import { renderService } from "./service-file.js";
import { renderSocket } from "./socket-file.js";

/** `handover unit` */
export function unitCommand(): Command {
  return new Command("unit")
    .summary("print a unit file for systemd")
    .description(
      "Prints a unit file: systemd runs the server, and `systemctl reload` upgrades it. A comment explains each " +
        "line. Options that are not given are taken from the package.json in the working directory.",
    )
    .option("--name <name>", "name of the unit; default: that of the package", unitName)
    .option("--user <user>", "user that runs it; default: root", userName)
    .option(
      "--exec <command>",
      'command to run, such as "/usr/bin/node server.js"; nothing in it is expanded',
    )
    .option(
      "--working-directory <directory>",
      "working directory; default: the program's package, or the current one",
    )
    .option("--pid-file <file>", "the pidFile of its new Upgrader(); default: /run/<name>/<name>.pid")
    .option(
      "--socket <address>",
      "let systemd listen: 8080, 127.0.0.1:8080, /run/app/app.sock; repeatable",
      collect,
    )
    .addOption(
      new Option("--type <type>", "how systemd learns that it is ready")
        .choices(UNIT_TYPES)
        .default("notify"),
    )
    .option("--watchdog <s>", "restart it when its event loop is blocked for this time", wholeNumber)
    .option("--upgrade-timeout <ms>", "the upgradeTimeout of its new Upgrader()", milliseconds, 60_000)
    .option("--drain-timeout <ms>", "the drainTimeout of its new Upgrader()", milliseconds, 30_000)
    .option("--write <directory>", "write the files to a directory instead of printing them")
    .option("--json", "print JSON, one object per line")
    .addHelpText("after", EXAMPLES)
    .action(unit);
}

const EXAMPLES = `
Examples:
  $ handover unit --user app > /etc/systemd/system/app.service
  $ handover unit --name app --user app --exec '/usr/bin/node /srv/app/current/server.js'
  $ handover unit --user app --socket 8080 --write /etc/systemd/system

With --socket two files are printed, the socket unit last. Each begins with a comment that names it.

Exit codes: 0 printed, 1 failed, 2 wrong usage.`;

type Options = Omit<Request, "sockets"> & { socket?: string[]; write?: string; json?: true };

function unit(options: Options, command: Command): void {
  const files = render(options, command);
  const { write: directory, json } = options;
  const paths = directory === undefined ? undefined : files.map((file) => write(directory, file));
  if (json) return writeJson({ answer: "unit", files, ...(paths && { written: paths }) });
  if (paths === undefined)
    return writeLines(
      files
        .map(({ content }) => content)
        .join("\n")
        .trimEnd(),
    );
  for (const path of paths) writeText(`written: ${path}`);
  writeText("next: systemctl daemon-reload");
}

interface File {
  name: string;
  content: string;
}

function render({ socket: sockets = [], write: _, json: __, ...request }: Options, command: Command): File[] {
  try {
    const plan = planUnit({ ...request, sockets });
    const service = { name: `${plan.name}.service`, content: renderService(plan) };
    if (sockets.length === 0) return [service];
    return [service, { name: `${plan.name}.socket`, content: renderSocket(plan) }];
  } catch (error) {
    if (error instanceof HandoverError && error.code === "ERR_OPTION") command.error(error.message);
    throw error;
  }
}

/** Does not overwrite another content: the administrator may have edited the unit. */
function write(directory: string, { name, content }: File): string {
  const path = join(resolve(directory), name);
  try {
    if (existsSync(path) && readFileSync(path, "utf8") === content) return path;
    writeFileSync(path, content, { flag: "wx", mode: 0o644 });
    return path;
  } catch (cause) {
    const exists = (cause as NodeJS.ErrnoException).code === "EEXIST";
    const why = exists ? "it exists with other content; remove it first" : reasonOf(cause);
    throw new HandoverError("ERR_OPTION", `cannot write ${path}: ${why}`, { cause });
  }
}

function collect(value: string, before: string[] = []): string[] {
  return [...before, value];
}

function unitName(text: string): string {
  const name = text.replace(/\.service$/, "");
  if (/^[\w:.-]{1,200}$/.test(name) && !name.startsWith("-")) return name;
  throw new InvalidArgumentError(
    "The name of a unit may contain only letters, digits and :_.-, and must not be a template.",
  );
}

/** As systemd accepts it: a number, or a name that useradd accepts. */
function userName(text: string): string {
  if (/^(\d{1,10}|[A-Za-z_][\w.-]{0,30}\$?)$/.test(text)) return text;
  throw new InvalidArgumentError("It must be the name of a user, or a number.");
}
