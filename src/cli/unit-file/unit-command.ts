import { resolve } from "node:path";
import { Command, InvalidArgumentError, Option } from "commander";
import { HandoverError } from "../../errors.js";
import { paint, writeJson, writeLines, writeText } from "../output.js";
import { milliseconds, numberOrMax, wholeNumber } from "../process-options.js";
import { installUnits, managerOption, writeUnits, type UnitFile } from "./install.js";
import { planUnit, UNIT_TYPES, USUAL_UPGRADE_TIMEOUT, type Plan, type Request } from "./plan.js";
import { renderService, requirement } from "./service-file.js";
import { renderSocket } from "./socket-file.js";

/** `handover unit` */
export function unitCommand(): Command {
  return new Command("unit")
    .summary("print a unit file for systemd, or install it")
    .description(
      "Prints a unit file: systemd runs the server, and `systemctl reload` upgrades it. A comment explains each " +
        "line. Options that are not given are taken from the package.json in the working directory. With --install " +
        "the unit is written where systemd reads it, enabled and started.",
    )
    .option("--name <name>", "name of the unit; default: that of the package", unitName)
    .option(
      "--user [user]",
      "user that runs it; without a name: a unit of your own systemd; default: root",
      userName,
    )
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
    .option("--workers <n>", "run so many workers by handover run; max: one for each processor", numberOrMax)
    .option("--watchdog <s>", "restart it when its event loop is blocked for this time", wholeNumber)
    .option(
      "--upgrade-timeout <ms>",
      "the upgradeTimeout of its new Upgrader()",
      milliseconds,
      USUAL_UPGRADE_TIMEOUT,
    )
    .option("--drain-timeout <ms>", "the drainTimeout of its new Upgrader()", milliseconds, 30_000)
    .addOption(
      new Option("--install", "write the files where systemd reads them, enable and start").conflicts(
        "write",
      ),
    )
    .option("--write <directory>", "write the files to a directory instead of printing them")
    .option("--force", "replace a file that has other content")
    .option("--json", "print JSON, one object per line")
    .addHelpText("after", EXAMPLES)
    .action(unit);
}

const EXAMPLES = `
Examples:
  $ handover unit --user app > /etc/systemd/system/app.service
  $ handover unit --name app --user app --exec '/usr/bin/node /srv/app/current/server.js'
  $ handover unit --user app --workers max --watchdog 30 > /etc/systemd/system/app.service
  $ handover unit --user app --socket 8080 --write /etc/systemd/system
  $ sudo handover unit --user app --install  as a service of the machine
  $ handover unit --user --install           as a service of your own

With --socket two files are printed, the socket unit last. Each begins with a comment that names it.

Exit codes: 0 printed, written or installed, 1 failed, 2 wrong usage.`;

type Options = Omit<Request, "sockets"> & {
  socket?: string[];
  install?: true;
  write?: string;
  force?: true;
  json?: true;
};

async function unit(options: Options, command: Command): Promise<void> {
  const plan = makePlan(options, command);
  const files = render(plan, command);
  const { install, write: directory, force = false, json } = options;
  const written = install
    ? await installUnits(plan, files, force)
    : directory && writeUnits(resolve(directory), files, force);
  if (json) {
    const enabled = install && { enabled: files.map(({ name }) => name) };
    return writeJson({ answer: "unit", files, ...(written && { written }), ...enabled });
  }
  if (!written) return writeLines(contentOf(files).split("\n"));
  for (const path of written) writeText(`written: ${path}`);
  if (!install) return writeText("next: systemctl daemon-reload");
  const systemctl = ["systemctl", ...managerOption(plan)].join(" ");
  writeText(paint("green", `done: ${plan.name} runs`));
  writeText(`${systemctl} reload ${plan.name} upgrades it, if it has ${requirement(plan)}`);
  if (force) writeText(`a service that ran before takes its new unit by ${systemctl} restart ${plan.name}`);
  if (plan.manager === "user") writeText("it ends when you log out, unless loginctl enable-linger was run");
}

function makePlan(options: Options, command: Command): Plan {
  const { socket: sockets = [], install: _, write: __, force: ___, json: ____, ...request } = options;
  return asUsage(command, () => planUnit({ ...request, sockets }));
}

function render(plan: Plan, command: Command): UnitFile[] {
  return asUsage(command, () => {
    const service = { name: `${plan.name}.service`, content: renderService(plan) };
    if (plan.sockets.length === 0) return [service];
    return [service, { name: `${plan.name}.socket`, content: renderSocket(plan) }];
  });
}

/** Options from which no unit can be made are wrong usage. */
function asUsage<T>(command: Command, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof HandoverError && error.code === "ERR_OPTION") command.error(error.message);
    throw error;
  }
}

function contentOf(files: readonly UnitFile[]): string {
  return files
    .map(({ content }) => content)
    .join("\n")
    .trimEnd();
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
