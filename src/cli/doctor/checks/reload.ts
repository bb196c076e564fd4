import type { Facts } from "../facts.js";
import { error, ok, warning, type Finding } from "../findings.js";
import { isSamePath, property } from "../systemctl.js";

/** Whether `systemctl reload` upgrades, and reports a failure. */
export function examineReload(facts: Facts): readonly Finding[] | Finding | undefined {
  if (facts.unit === undefined || property(facts.unit, "Type") === "notify-reload") return undefined;
  const { reload, name } = facts.unit;
  const fix = "set ExecReload= to handover upgrade --pid-file …; handover unit prints the whole line";
  if (reload === undefined) {
    return error("ExecReload= is not set", `systemctl reload ${name} is refused`, fix);
  }
  const line = `ExecReload=${reload.words.join(" ")}`;
  if (facts.missing.length > 0) {
    return error(line, `systemctl reload fails: there is no ${facts.missing.join(", no ")}`, fix);
  }
  if (/(^|\/)kill$/.test(reload.path) || /(^|\/)kill\s/.test(reload.words.join(" "))) {
    const why = "it only sends a signal: systemctl reload succeeds even if the upgrade fails";
    const hasSignal = facts.settings.signals.upgrade !== undefined;
    return hasSignal ? warning(line, why, fix) : error(line, "no signal upgrades the program", fix);
  }
  if (!reload.words.includes("upgrade")) {
    return warning(line, "this command is not known to upgrade the service", fix);
  }
  return examineUpgrade(facts, line, fix);
}

function examineUpgrade(facts: Facts, line: string, fix: string): readonly Finding[] {
  const { path, words, ignoresErrors } = facts.unit!.reload!;
  const found: Finding[] = [];
  if (ignoresErrors) {
    found.push(
      warning(
        line,
        "the - before the command makes systemctl reload succeed even if the upgrade fails",
        "remove the -",
      ),
    );
  }
  if (/(^|\/)npx$/.test(path) && property(facts.unit, "WorkingDirectory") === "") {
    const why = "without WorkingDirectory= npx looks for handover in /, and then asks the registry for it";
    found.push(error(line, why, fix));
  }
  const file = words[words.indexOf("--pid-file") + 1];
  const { pidFile } = facts.settings;
  if (
    words.includes("--pid-file") &&
    facts.status?.settings !== undefined &&
    !isSamePath(file ?? "", pidFile)
  ) {
    const why = `the program's pidFile is ${pidFile ?? "not set"}: handover upgrade does not find it`;
    found.push(error(line, why, "use the same file for both"));
  }
  return found.length > 0 ? found : [ok(line)];
}
