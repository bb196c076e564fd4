import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { Command, InvalidArgumentError, Option } from "commander";
import { HandoverError, reasonOf } from "../../errors.js";
import { writeJson, writeText } from "../output.js";
import { wholeNumber } from "../process-options.js";
import { planUnit, UNIT_TYPES, type Request } from "./plan.js";
import { renderService } from "./service-file.js";
import { renderSocket } from "./socket-file.js";

/** `handover unit` */
export function unitCommand(): Command {
  return new Command("unit")
    .summary("print a unit file for systemd")
    .description(
      "Prints a unit file with which systemd runs a server and `systemctl reload` upgrades it; its comments say " +
        "what each line is for. What is not given is taken from the package.json of the working directory.",
    )
    .option("--name <name>", "of the unit; default: the package's", unitName)
    .option("--user <user>", "who runs it; default: root", userName)
    .option("--exec <command>", 'what to run, as "/usr/bin/node server.js"; nothing in it is expanded')
    .option("--working-directory <directory>", "where; default: the program's package, or this directory")
    .option("--pid-file <file>", "the pidFile of its new Upgrader(); default: /run/<name>/<name>.pid")
    .option(
      "--socket <address>",
      "let systemd listen: 8080, 127.0.0.1:8080, /run/app.sock; repeatable",
      collect,
    )
    .addOption(new Option("--type <type>", "how systemd follows it").choices(UNIT_TYPES).default("notify"))
    .option("--watchdog <s>", "restart it if its event loop is blocked for so long", wholeNumber)
    .option("--upgrade-timeout <ms>", "the upgradeTimeout of its new Upgrader()", wholeNumber, 60_000)
    .option("--drain-timeout <ms>", "the drainTimeout of its new Upgrader()", wholeNumber, 30_000)
    .option("--write <directory>", "write the files there instead of printing them")
    .option("--json", "print JSON, one object a line")
    .addHelpText("after", EXAMPLES)
    .action(unit);
}

const EXAMPLES = `
Examples:
  $ handover unit --user app > /etc/systemd/system/app.service
  $ handover unit --name app --user app --exec '/usr/bin/node /srv/app/current/server.js'
  $ handover unit --user app --socket 8080 --write /etc/systemd/system

Printed with --socket, each of the two files begins with a comment that has its name; the socket unit comes last.

Exit codes: 0 printed, 1 failed, 2 wrong usage.`;

type Options = Omit<Request, "sockets"> & { socket?: string[]; write?: string; json?: true };

function unit(options: Options, command: Command): void {
  const files = render(options, command);
  const { write: directory, json } = options;
  const paths = directory === undefined ? undefined : files.map((file) => write(directory, file));
  if (json) return writeJson({ answer: "unit", files, ...(paths && { written: paths }) });
  if (paths === undefined)
    return writeText(
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

/** Overwrites nothing: a unit that is there may have been edited. */
function write(directory: string, { name, content }: File): string {
  const path = join(resolve(directory), name);
  try {
    if (existsSync(path) && readFileSync(path, "utf8") === content) return path;
    writeFileSync(path, content, { flag: "wx", mode: 0o644 });
    return path;
  } catch (cause) {
    const exists = (cause as NodeJS.ErrnoException).code === "EEXIST";
    const why = exists ? "it exists, with another content; remove it first" : reasonOf(cause);
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
    "The name of a unit has letters, digits and :_.- only, and is no template's.",
  );
}

/** As systemd takes them: a number, or what useradd makes. */
function userName(text: string): string {
  if (/^(\d{1,10}|[A-Za-z_][\w.-]{0,30}\$?)$/.test(text)) return text;
  throw new InvalidArgumentError("It must be the name of a user, or a number.");
}
