import { spawnSync } from "node:child_process";
import { accessSync, constants, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { basename, join } from "node:path";
import { HandoverError, reasonOf } from "../../errors.js";
import { isExecutable } from "../../platform/path.js";
import { systemctl } from "../doctor/systemctl.js";
import { missingScript, type Plan } from "./plan.js";

export interface UnitFile {
  name: string;
  content: string;
}

/**
 * Writes the files where systemd reads them, enables the units and starts them. Returns the paths. Nothing is written if
 * the unit could not work, or systemd does not answer.
 *
 * @param force replaces files that have other content
 * @throws {HandoverError} `ERR_OPTION`, `ERR_CONTROL`
 */
export async function installUnits(
  plan: Plan,
  files: readonly UnitFile[],
  force: boolean,
): Promise<string[]> {
  requireProgram(plan);
  const directory = unitDirectory(plan);
  makeWritable(directory, plan);
  const manager = managerOption(plan);
  await systemctl(`reach systemd${hint(plan)}`, [...manager, "show", "--property=Version"]);
  const paths = writeUnits(directory, files, force);
  await systemctl("make systemd read its units", [...manager, "daemon-reload"], 0);
  const units = files.map(({ name }) => name).toReversed();
  // It returns when the service is ready, or its TimeoutStartSec= is over.
  await systemctl(`start ${units.join(" and ")}`, [...manager, "enable", "--now", ...units], 0);
  return paths;
}

/** The option of systemctl for the systemd of a plan. */
export function managerOption({ manager }: Plan): string[] {
  return manager === "user" ? ["--user"] : [];
}

/**
 * Writes all files, or none if one has other content: the administrator may have edited it. Returns the paths.
 *
 * @throws {HandoverError} `ERR_OPTION`
 */
export function writeUnits(directory: string, files: readonly UnitFile[], force: boolean): string[] {
  const all = files.map(({ name, content }) => ({ path: join(directory, name), content }));
  const changed = all.filter(({ path, content }) => read(path) !== content);
  for (const { path } of changed) {
    if (!force && existsSync(path))
      throw cannotWrite(path, "it exists with other content; --force replaces it");
  }
  for (const { path, content } of changed) write(path, content, force);
  return all.map(({ path }) => path);
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    // It is not there; or it is, and the write below says what is wrong with it.
    return undefined;
  }
}

function write(path: string, content: string, force: boolean): void {
  try {
    writeFileSync(path, content, { flag: force ? "w" : "wx", mode: 0o644 });
  } catch (cause) {
    throw cannotWrite(path, reasonOf(cause), cause);
  }
}

function cannotWrite(path: string, why: string, cause?: unknown): HandoverError {
  return new HandoverError("ERR_OPTION", `cannot write ${path}: ${why}`, { cause });
}

/** The directory of the administrator's units, or of the user's. */
function unitDirectory({ manager }: Plan): string {
  if (manager === "system") return "/etc/systemd/system";
  return join(process.env["XDG_CONFIG_HOME"] ?? join(homedir(), ".config"), "systemd", "user");
}

function makeWritable(directory: string, { manager }: Plan): void {
  try {
    mkdirSync(directory, { recursive: true });
    accessSync(directory, constants.W_OK);
  } catch (cause) {
    const isOwn = manager === "user";
    const remedy = isOwn ? "" : "; run it as root, or with --user and no name for a unit of your own systemd";
    throw cannotWrite(directory, `${reasonOf(cause)}${remedy}`, cause);
  }
}

function hint({ manager }: Plan): string {
  return manager === "user" ? ", of which you have one of your own while you are logged in" : "";
}

/** A unit may be printed for another machine, but is started only where its program is. */
function requireProgram({ command, handover, workingDirectory, user, name }: Plan): void {
  const [program = ""] = command;
  const script = basename(program) === "node" ? missingScript(command, workingDirectory) : undefined;
  const why = [
    !existsSync(workingDirectory) && `there is no directory ${workingDirectory}`,
    !isExecutable(program) && `there is no program ${program}`,
    script !== undefined && `there is no ${script} in ${workingDirectory}`,
    !existsSync(handover[1]!) && `there is no ${handover[1]}`,
    user !== undefined && isUnknown(user) && `there is no user ${user}: useradd --system ${user}`,
  ].find((one) => one !== false);
  if (why !== undefined) throw new HandoverError("ERR_OPTION", `cannot install ${name}.service: ${why}`);
}

function isUnknown(user: string): boolean {
  return spawnSync("id", ["-u", user]).status === 1;
}
