import { duration } from "../../output.js";
import type { Facts } from "../facts.js";
import { ok, warning, type Check, type Finding } from "../findings.js";
import { parseTimespan } from "../systemctl.js";

/** Whether systemd waits as long as the program may take. */
export const TIMEOUT_CHECKS: readonly Check[] = [
  { name: "timeout-start", examine: examineStart },
  { name: "timeout-stop", examine: examineStop },
  { name: "systemd-version", examine: examineVersion },
];

function examineStart(facts: Facts): Finding | undefined {
  const time = parseTimespan(facts.unit?.properties.get("TimeoutStartUSec"));
  if (time === undefined) return undefined;
  const { upgradeTimeout, probation } = facts.settings;
  const needed = upgradeTimeout + probation;
  if (time > needed) return ok(`TimeoutStartSec=${seconds(time)}`);
  return warning(
    `TimeoutStartSec=${seconds(time)}`,
    `it also limits a reload, which may take ${duration(needed)} (upgradeTimeout and probation): systemd would kill handover upgrade and report a failure while the upgrade continues`,
    `set TimeoutStartSec=${Math.ceil(needed / 1_000) + 30}, or a shorter upgradeTimeout`,
  );
}

function examineStop(facts: Facts): Finding | undefined {
  const time = parseTimespan(facts.unit?.properties.get("TimeoutStopUSec"));
  if (time === undefined) return undefined;
  const { drainTimeout, exitTimeout } = facts.settings;
  const needed = drainTimeout + exitTimeout;
  if (time > needed) return ok(`TimeoutStopSec=${seconds(time)}`);
  return warning(
    `TimeoutStopSec=${seconds(time)}`,
    `a stop may take ${duration(needed)} (drainTimeout and exitTimeout): systemd would kill processes that still drain`,
    `set TimeoutStopSec=${Math.ceil(needed / 1_000) + 5}, or a shorter drainTimeout`,
  );
}

/** A time as a unit file has it. */
function seconds(ms: number): string {
  return ms === Infinity ? "infinity" : String(Math.round(ms) / 1_000);
}

function examineVersion({ systemd, unit }: Facts): Finding | undefined {
  if (systemd === undefined) return undefined;
  if (systemd >= 244) return ok(`systemd ${systemd}`);
  const why =
    "before 244, log lines of the new process are not found under the unit once the main process has changed";
  const found = warning(`systemd ${systemd}`, why, "log elsewhere, or update systemd");
  return unit === undefined ? { ...found, what: `systemd ${systemd} on this machine` } : found;
}
