import { Command } from "commander";
import type { Examination } from "./examine.js";
import type { Target } from "./target.js";
import { count, paint, Reported, writeJson, writeText } from "../output.js";

/** `handover doctor` */
export function doctorCommand(): Command {
  return new Command("doctor")
    .summary("find problems that would make an upgrade fail")
    .description(
      "Examines a systemd unit or a running server; without an argument, this machine and the project in the " +
        "working directory. Prints the problems that would make an upgrade fail, with a reason and a fix. " +
        "Changes nothing.",
    )
    .argument("[target]", "name of the unit, or PID of the process")
    .option("--pid-file <file>", "PID file of the process")
    .option("--json", "print JSON, one object per line")
    .addHelpText("after", EXAMPLES)
    .action(doctor);
}

const EXAMPLES = `
Examples:
  $ handover doctor app.service
  $ handover doctor 4711
  $ handover doctor --pid-file /run/app/app.pid --json | jq '.findings[] | select(.severity != "ok")'

Exit codes: 0 no error was found, 1 an error was found, 2 wrong usage.`;

interface Options {
  pidFile?: string;
  json?: true;
}

async function doctor(name: string | undefined, { pidFile, json }: Options, command: Command): Promise<void> {
  if (name !== undefined && pidFile !== undefined) {
    command.error("name one process: by its unit, its PID or --pid-file");
  }
  const { examine } = await import("./examine.js");
  const { subject, findings } = await examine({ pidFile, ...target(name, command) });
  const [errors, warnings] = (["error", "warning"] as const).map(
    (severity) => findings.filter((one) => one.severity === severity).length,
  ) as [number, number];
  if (json) writeJson({ answer: "examined", subject, errors, warnings, findings });
  else print(subject, findings, errors, warnings);
  if (errors > 0) throw new Reported();
}

function target(name: string | undefined, command: Command): Target {
  if (name === undefined) return {};
  if (/^[1-9]\d{0,9}$/.test(name)) return { pid: Number(name) };
  if (/^[\w:.@\\][\w:.@\\-]*$/.test(name) && !/^\d+$/.test(name)) return { unit: name };
  return command.error(`${JSON.stringify(name)} is neither a PID nor the name of a unit`);
}

const COLORS = { error: "red", warning: "yellow", ok: "green" } as const;

function print(subject: string, findings: Examination["findings"], errors: number, warnings: number): void {
  writeText(paint("bold", subject));
  const width = Math.max(...findings.map(({ check }) => check.length)) + 2;
  for (const finding of findings) {
    const { severity, check, what } = finding;
    writeText(`${paint(COLORS[severity], severity.padEnd(9))}${check.padEnd(width)}${what}`);
    if (finding.severity === "ok") continue;
    writeText(`${" ".repeat(9 + width)}${paint("dim", `why: ${finding.why}`)}`);
    writeText(`${" ".repeat(9 + width)}fix: ${finding.fix}`);
  }
  const good = findings.length - errors - warnings;
  writeText(`${count(errors, "error")}, ${count(warnings, "warning")}, ${good} ok`);
}
