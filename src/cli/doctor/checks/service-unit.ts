import { constants } from "node:os";
import type { Status } from "../../../control/protocol.js";
import { isReserved } from "../../../util/validation.js";
import { DIRECTIVES } from "../../unit-file/directives.js";
import { splitWords } from "../../unit-file/quote.js";
import type { Facts } from "../facts.js";
import { error, ok, warning, type Check, type Finding } from "../findings.js";
import { examineReload } from "./reload.js";
import { isSamePath, property } from "../systemctl.js";

/** The directives of the unit. */
export const SERVICE_UNIT_CHECKS: readonly Check[] = [
  { name: "unit-state", examine: examineState },
  { name: "unit-type", examine: examineType },
  { name: "notify-access", examine: examineNotifyAccess },
  { name: "unit-pid-file", examine: examinePidFile },
  { name: "exec-reload", examine: examineReload },
  { name: "kill-mode", examine: examineKillMode },
  { name: "kill-signal", examine: examineKillSignal },
  { name: "descriptor-store", examine: examineStore },
  { name: "oom-policy", examine: examineOomPolicy },
  { name: "sandbox", examine: examineSandbox },
];

function examineState(facts: Facts): Finding | undefined {
  if (facts.unit === undefined) return undefined;
  const { name } = facts.unit;
  if (property(facts.unit, "NeedDaemonReload") === "yes") {
    return warning(
      `the file of ${name} was changed after systemd had read it`,
      "systemd uses the old version, and so does this report",
      "systemctl daemon-reload",
    );
  }
  const state = property(facts.unit, "ActiveState");
  if (facts.process !== undefined || facts.hidden !== undefined) return ok(`${name} is ${state}`);
  return warning(`${name} is ${state}`, "only its file can be examined", `systemctl start ${name}`);
}

function examineType(facts: Facts): Finding | undefined {
  if (facts.unit === undefined) return undefined;
  const type = property(facts.unit, "Type");
  if (type === "notify") return ok("Type=notify");
  if (type === "notify-reload") {
    if (facts.systemd === undefined || facts.systemd >= 253) {
      return warning(
        "Type=notify-reload",
        "systemd does not learn that an upgrade failed: systemctl reload succeeds regardless",
        "set Type=notify, and ExecReload= to handover upgrade",
      );
    }
    const why = `systemd ${facts.systemd} does not support it, and uses another type`;
    return error("Type=notify-reload", why, "set Type=notify, and ExecReload= to handover upgrade");
  }
  if (type === "oneshot") {
    const why = "a oneshot service ends when its process exits, which is at the first upgrade";
    return error("Type=oneshot", why, "set Type=notify");
  }
  // The main process of a supervisor does not change.
  const isSupervised = facts.status?.workers !== undefined;
  const hasWay = isSupervised || property(facts.unit, "PIDFile") !== "" || isNotified(facts);
  if (hasWay) {
    return type === "forking"
      ? ok("Type=forking")
      : warning(
          `Type=${type}`,
          "systemd takes the service for started before it is ready",
          "set Type=notify; handover unit prints a whole unit",
        );
  }
  return error(
    `Type=${type}, without PIDFile= and NotifyAccess=`,
    "systemd does not learn of the new process: when the old one exits, it takes the service for stopped and kills the new one",
    "set Type=notify; or set PIDFile= to the pidFile of new Upgrader()",
  );
}

function isNotified(facts: Facts): boolean {
  return !["", "none"].includes(property(facts.unit, "NotifyAccess"));
}

function examineNotifyAccess(facts: Facts): Finding | undefined {
  if (facts.unit === undefined) return undefined;
  const access = property(facts.unit, "NotifyAccess") || "none";
  if (access !== "none") return ok(`NotifyAccess=${access}`);
  const why =
    "the program cannot report its next process to systemd, store listeners there, or feed a watchdog";
  const isNeeded = property(facts.unit, "Type").startsWith("notify");
  return (isNeeded ? error : warning)("NotifyAccess=none", why, advice("NotifyAccess"));
}

function examinePidFile(facts: Facts): Finding | undefined {
  if (facts.unit === undefined) return undefined;
  const [file, { pidFile }] = [property(facts.unit, "PIDFile"), facts.settings];
  if (file === "")
    return property(facts.unit, "Type") === "forking"
      ? error(
          "Type=forking without PIDFile=",
          "systemd guesses which process is the service, and guesses wrong after an upgrade",
          "set PIDFile= to the pidFile of new Upgrader()",
        )
      : undefined;
  if (facts.status?.settings === undefined || isSamePath(file, pidFile)) return ok(`PIDFile=${file}`);
  return error(
    `PIDFile=${file}, and the program's pidFile is ${pidFile ?? "not set"}`,
    "systemd looks for the new process in a file that is never written",
    `set the option pidFile to ${JSON.stringify(file)}`,
  );
}

function examineKillMode(facts: Facts): Finding | undefined {
  if (facts.unit === undefined) return undefined;
  const mode = property(facts.unit, "KillMode");
  if (mode === DIRECTIVES.KillMode) return ok(`KillMode=${mode}`);
  const why =
    mode === "control-group"
      ? "a stop sends SIGTERM to all processes at once, also to child processes that the program still needs while it drains"
      : "a stop leaves processes behind: predecessors that drain, and a successor that is not ready yet";
  return warning(`KillMode=${mode}`, why, advice("KillMode"));
}

function examineKillSignal(facts: Facts): Finding | undefined {
  const signal = Number(property(facts.unit, "KillSignal"));
  if (facts.unit === undefined || !(signal > 0)) return undefined;
  const name = Object.entries(constants.signals).find(([, number]) => number === signal)?.[0] ?? `${signal}`;
  const { stop } = facts.settings.signals;
  if ((stop as string[]).includes(name)) return ok(`KillSignal=${name}`);
  return warning(
    `KillSignal=${name}`,
    `the program stops on ${stop.join(", ") || "no signal"}: a stop of the service drains no connection`,
    `set KillSignal=${stop[0] ?? "SIGTERM"}, or the option signals.stop to [${JSON.stringify(name)}]`,
  );
}

function examineStore(facts: Facts): Finding | undefined {
  if (facts.unit === undefined) return undefined;
  const most = Number(property(facts.unit, "FileDescriptorStoreMax") || 0);
  const listeners = facts.status?.listeners.filter(isKept).length ?? 1;
  const needed = listeners * (facts.status?.workers?.length ?? 1);
  if (most >= needed) return ok(`FileDescriptorStoreMax=${most}`);
  return warning(
    `FileDescriptorStoreMax=${most}`,
    "systemd does not keep every listener: after a crash clients are refused until the service runs again",
    `set FileDescriptorStoreMax=${Math.max(DIRECTIVES.FileDescriptorStoreMax, needed * 2)}`,
  );
}

/** systemd keeps the sockets of a socket unit anyway; clients do not use the control socket, or files. */
function isKept({ name, address, passed }: Status["listeners"][number]): boolean {
  return address !== undefined && passed !== true && !isReserved(name);
}

function examineOomPolicy(facts: Facts): Finding | undefined {
  const policy = property(facts.unit, "OOMPolicy");
  if (policy === "") return undefined;
  if (policy === DIRECTIVES.OOMPolicy) return ok(`OOMPolicy=${policy}`);
  return warning(
    `OOMPolicy=${policy}`,
    "if a new process runs out of memory, systemd stops the old one, too",
    advice("OOMPolicy"),
  );
}

function advice(name: keyof typeof DIRECTIVES): string {
  return `set ${name}=${DIRECTIVES[name]}`;
}

function examineSandbox(facts: Facts): readonly Finding[] | undefined {
  const { pidFile } = facts.settings;
  if (facts.unit === undefined || pidFile === undefined) return undefined;
  const found: Finding[] = [];
  const isTemporary = /^(\/var)?\/tmp\//.test(pidFile);
  if (isTemporary && property(facts.unit, "PrivateTmp") === "yes") {
    const isFollowed = property(facts.unit, "PIDFile") !== "" && property(facts.unit, "Type") !== "notify";
    const why = isFollowed
      ? "systemd looks for the PID file in the shared /tmp"
      : "handover, run from a shell, looks for the PID file in the shared /tmp";
    found.push(
      (isFollowed ? error : warning)(
        `PrivateTmp=yes, and pidFile is ${pidFile}`,
        why,
        inRuntimeDirectory(facts),
      ),
    );
  }
  if (property(facts.unit, "ProtectSystem") === "strict" && !isWritable(facts, pidFile)) {
    const why = "everything but /dev, /proc and /sys is read-only: ready() fails";
    found.push(error(`ProtectSystem=strict, and pidFile is ${pidFile}`, why, inRuntimeDirectory(facts)));
  }
  return found;
}

function isWritable(facts: Facts, file: string): boolean {
  const list = (name: string, root: string): string[] =>
    // systemctl quotes a path that has a blank.
    splitWords(property(facts.unit, name)).map((one) => root + one.replace(/^[-+]+/, ""));
  const roots = [
    ...list("ReadWritePaths", ""),
    ...list("RuntimeDirectory", "/run/"),
    ...list("StateDirectory", "/var/lib/"),
    ...(property(facts.unit, "PrivateTmp") === "yes" ? ["/tmp", "/var/tmp"] : []),
  ];
  return roots.some((root) => file.startsWith(`${root.replace(/\/$/, "")}/`));
}

function inRuntimeDirectory({ unit }: Facts): string {
  const name = unit!.name.replace(/\.service$/, "");
  return `set RuntimeDirectory=${name}, and pidFile to "/run/${name}/${name}.pid"`;
}
