import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { isAbsolute } from "node:path";
import { promisify } from "node:util";
import { HandoverError, reasonOf } from "../../errors.js";

/** A unit as `systemctl show` prints it. */
export interface UnitFacts {
  name: string;
  properties: ReadonlyMap<string, string>;
  start: ExecLine | undefined;
  reload: ExecLine | undefined;
}

/** A command of a unit. */
interface ExecLine {
  path: string;
  words: string[];
  ignoresErrors: boolean;
}

/**
 * Reads a unit by systemctl.
 *
 * @throws {HandoverError} `ERR_CONTROL`
 */
export async function showUnit(name: string): Promise<UnitFacts> {
  const unit = /\.[a-z]+$/.test(name) ? name : `${name}.service`;
  if (!unit.endsWith(".service")) {
    const message = `cannot examine the unit ${unit}: it is not a service; name the service that belongs to it`;
    throw new HandoverError("ERR_CONTROL", message);
  }
  const properties = parseProperties(
    await systemctl(`read the unit ${unit}`, ["show", `--property=${PROPERTIES.join(",")}`, "--", unit]),
  );
  if (properties.get("LoadState") !== "loaded") {
    const why = properties.get("LoadState") ?? "unknown";
    throw new HandoverError("ERR_CONTROL", `cannot examine the unit ${unit}: systemd reports it as ${why}`);
  }
  return {
    name: unit,
    properties,
    start: parseExec(properties.get("ExecStart")),
    reload: parseExec(properties.get("ExecReload")),
  };
}

/** A property of a unit; empty if it is not set, or unknown to this systemd. */
export function property(unit: UnitFacts | undefined, name: string): string {
  return unit?.properties.get(name) ?? "";
}

/** Whether two paths name the same file: systemd writes /run for /var/run. */
export function isSamePath(one: string, other: string | undefined): boolean {
  return one.replace(/^\/var\/run\//, "/run/") === other?.replace(/^\/var\/run\//, "/run/");
}

/** Files that ExecReload= names before the word `upgrade`, and that do not exist. */
export function missingReloadFiles(unit: UnitFacts | undefined): string[] {
  const { path = "", words = [] } = unit?.reload ?? {};
  const end = words.indexOf("upgrade");
  const files = [path, ...words.slice(1, end < 0 ? 1 : end)].filter(isAbsolute);
  return files.filter((file) => !existsSync(file));
}

/** The version of systemd; undefined without systemd. */
export async function systemdVersion(): Promise<number | undefined> {
  try {
    const [, version] =
      /^systemd (\d+)/.exec(await systemctl("read the version of systemd", ["--version"])) ?? [];
    return version === undefined ? undefined : Number(version);
  } catch {
    return undefined;
  }
}

const PROPERTIES = [
  "ActiveState",
  "ExecReload",
  "ExecStart",
  "FileDescriptorStoreMax",
  "KillMode",
  "KillSignal",
  "LoadState",
  "MainPID",
  "MemoryMax",
  "NeedDaemonReload",
  "NotifyAccess",
  "OOMPolicy",
  "PIDFile",
  "PrivateTmp",
  "ProtectSystem",
  "ReadWritePaths",
  "RuntimeDirectory",
  "StateDirectory",
  "TimeoutStartUSec",
  "TimeoutStopUSec",
  "Type",
  "User",
  "WorkingDirectory",
];

/** ms */
const SYSTEMCTL_TIMEOUT = 10_000;

/**
 * Runs systemctl.
 *
 * @param doing for the error: `read the unit app.service`
 * @param timeout in ms; 0: as long as systemd needs
 * @throws {HandoverError} `ERR_CONTROL`
 */
export async function systemctl(
  doing: string,
  args: readonly string[],
  timeout = SYSTEMCTL_TIMEOUT,
): Promise<string> {
  try {
    // A locale would change the format of times.
    const env = { ...process.env, LC_ALL: "C" };
    return (await promisify(execFile)("systemctl", args, { timeout, env })).stdout;
  } catch (cause) {
    const { code, killed, stderr } = cause as { code?: unknown; killed?: boolean; stderr?: string };
    const why =
      code === "ENOENT"
        ? "there is no systemctl"
        : killed === true
          ? `systemctl did not answer within ${timeout} ms`
          : complaint(stderr) || reasonOf(cause);
    throw new HandoverError("ERR_CONTROL", `cannot ${doing}: ${why}`, { cause });
  }
}

/** The first line of what systemctl complains of; it also says what it has done. */
function complaint(stderr = ""): string | undefined {
  return stderr
    .trim()
    .split("\n")
    .find((line) => !line.startsWith("Created symlink "));
}

/** A property with several values, such as commands, has a line for each: the first one is kept. */
function parseProperties(text: string): Map<string, string> {
  const properties = new Map<string, string>();
  for (const line of text.split("\n")) {
    const equals = line.indexOf("=");
    if (equals > 0 && !properties.has(line.slice(0, equals))) {
      properties.set(line.slice(0, equals), line.slice(equals + 1));
    }
  }
  return properties;
}

function parseExec(text: string | undefined): ExecLine | undefined {
  const [, path, words, ignores] =
    /^\{ path=(.*?) ; argv\[\]=(.*?) ; ignore_errors=(yes|no) ;/s.exec(text ?? "") ?? [];
  if (path === undefined) return undefined;
  return { path, words: readWords(words!), ignoresErrors: ignores === "yes" };
}

/**
 * systemctl does not quote words that contain blanks. A word that is an absolute path ends where an existing file
 * does.
 */
function readWords(text: string): string[] {
  const pieces = text.replaceAll("$$", "$").split(" ");
  const words: string[] = [];
  for (let n = 0, end = 0; n < pieces.length; n = end) {
    const join = (): string => pieces.slice(n, end).join(" ");
    end = isAbsolute(pieces[n]!) ? pieces.length : n + 1;
    while (end > n + 1 && !existsSync(join())) end--;
    words.push(join());
  }
  return words;
}

/** Reads a time as systemd prints it, such as `1min 30s` or `infinity`. Returns ms. */
export function parseTimespan(text: string | undefined): number | undefined {
  if (text === undefined || text === "") return undefined;
  if (text === "infinity") return Infinity;
  let ms = 0;
  for (const piece of text.split(" ")) {
    const [, n, unit] = /^([\d.]+)([a-z]*)$/.exec(piece) ?? [];
    const factor = UNITS[unit ?? "none"];
    if (factor === undefined) return undefined;
    ms += Number(n) * factor;
  }
  return ms;
}

const UNITS: Record<string, number> = {
  "": 0.001,
  us: 0.001,
  ms: 1,
  s: 1_000,
  min: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
  month: 2_629_800_000,
  y: 31_557_600_000,
};
