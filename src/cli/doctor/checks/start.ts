import { buildCommand } from "../../../platform/addon.js";
import type { Facts } from "../facts.js";
import { error, ok, warning, type Check, type Finding } from "../findings.js";
import { fitsEngines } from "../node-probe.js";

/** Whether the next generation can be started. */
export const START_CHECKS: readonly Check[] = [
  { name: "root", examine: examineRoot },
  { name: "directory", examine: examineDirectory },
  { name: "command", examine: examineCommand },
  { name: "script", examine: examineScript },
  { name: "release", examine: examineRelease },
  { name: "package", examine: examinePackage },
  { name: "node", examine: examineNode },
  { name: "addon", examine: examineAddon },
];

function examineRoot({ process }: Facts): Finding | undefined {
  if (process?.hasOtherRoot !== true) return undefined;
  const why =
    "its file system is not the one that is visible here: directory, command, script and PID file were not examined";
  return warning(`process ${process.pid} is in a container`, why, "run handover doctor inside the container");
}

const EVERY_UPGRADE = "an upgrade starts the command again, and fails with ERR_SPAWN";
const FAILS = "the new process exits at once, and the upgrade fails with ERR_CHILD_EXITED";

function examineDirectory({ start, startProblem, process }: Facts): Finding | undefined {
  if (startProblem !== undefined) {
    return error(startProblem, EVERY_UPGRADE, "restore it, or restart the service from its new place");
  }
  if (start === undefined) return undefined;
  if (!start.hasDirectory) {
    const fix = "restore it, or start the service in a lasting directory, such as a symlink to the release";
    return error(`the working directory ${start.cwd} no longer exists`, EVERY_UPGRADE, fix);
  }
  const isGone = process?.cwd.endsWith(" (deleted)") === true;
  return ok(
    isGone
      ? `the working directory was replaced: the next process starts in the new ${start.cwd}`
      : `working directory ${start.cwd}`,
  );
}

function examineCommand({ start }: Facts): Finding | undefined {
  if (start === undefined || !start.hasDirectory) return undefined;
  const [word] = start.words;
  if (start.file !== undefined) return ok(`${word} is ${start.file}`);
  const fix = "install it, or set the option spawn.command to its path";
  return error(
    `${word} is not found in ${start.cwd} or on the PATH that the process was started with`,
    EVERY_UPGRADE,
    fix,
  );
}

function examineScript({ start }: Facts): Finding | undefined {
  if (start?.script === undefined || !start.hasDirectory) return undefined;
  const { path, exists } = start.script;
  if (exists) return ok(`script ${path}`);
  return error(
    `the script ${path} no longer exists`,
    FAILS,
    "restore it, or restart the service with the script that exists now",
  );
}

function examineRelease({ start }: Facts): Finding | undefined {
  if (start?.lostLink === undefined) return undefined;
  return warning(
    `the next process starts in ${start.cwd}, but the unit names ${start.lostLink}, which is a symlink`,
    "when the symlink is switched to another release, an upgrade still starts in this one, or fails if it was deleted",
    `set Environment=PWD=${start.lostLink} in the unit, and restart`,
  );
}

function examinePackage({ start, process }: Facts): Finding | undefined {
  // A running process has found the package.
  if (start?.node === undefined || process !== undefined) return undefined;
  const { root, isInstalled } = start.node;
  if (isInstalled) return ok(`handover is installed in ${root}`);
  const why = `a program there cannot import it; the addon was checked in ${root} instead`;
  return warning(`handover is not installed for ${start.cwd}`, why, "npm install handover");
}

function examineNode({ start }: Facts): Finding | undefined {
  if (start?.node === undefined) return undefined;
  const { file, version, engines, root } = start.node;
  if (typeof version !== "string")
    return error(`${file} does not run: ${version.failure}`, FAILS, "repair the installation of Node");
  if (fitsEngines(version, engines)) return ok(`${file} is Node ${version}`);
  return error(
    `${file} is Node ${version}, and ${root} needs ${engines}`,
    FAILS,
    "install a newer Node, or set the option spawn.command to one",
  );
}

function examineAddon({ start }: Facts): Finding | undefined {
  if (start?.node === undefined || typeof start.node.version !== "string") return undefined;
  const { file, root, addonFailure } = start.node;
  if (addonFailure === undefined) return ok(`${file} loads the addon of ${root}`);
  const why = addonFailure === "" ? "there is none for this platform" : addonFailure;
  return error(
    `${file} cannot load the addon of ${root}: ${why}`,
    "new Upgrader() of the new process throws ERR_NOT_SUPPORTED",
    `install the package for this platform, or build its addon: ${buildCommand(root)}`,
  );
}
