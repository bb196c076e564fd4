import { execFile } from "node:child_process";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { reasonOf } from "../../errors.js";
import { findPackage, ownPackage, readManifest } from "../../platform/installation.js";
import { ADDON, packagedAddons } from "../../platform/addon.js";

/** The Node that would run the program, and the handover package that the program would import. */
export interface NodeFacts {
  file: string;
  /** The version, or why this Node does not run. */
  version: string | { failure: string };
  /** The package that the program imports; if none is found, the package of this doctor. */
  root: string;
  isInstalled: boolean;
  /** The versions of Node that the package supports, such as `>=20.19`. */
  engines: string;
  /** Why this Node cannot load the addon. */
  addonFailure: string | undefined;
}

/** Finds the handover that the program imports, as Node looks it up; otherwise this one. */
export function packageOf(script: string | undefined, cwd: string): Pick<NodeFacts, "root" | "isInstalled"> {
  const from = [...(script === undefined ? [] : [dirname(script)]), cwd];
  const found = from.map(findPackage).find((root) => root !== undefined);
  return { root: found ?? ownPackage(), isInstalled: found !== undefined };
}

/** Loads the addon from the given places, as the package does, and nothing else of the package. */
const PROBE = `
let failure = "";
for (const place of process.argv.slice(1)) {
  try { require(place); failure = undefined; break; } catch (error) {
    if (error.code !== "MODULE_NOT_FOUND" || failure === "") failure = error.message.split("\\n")[0];
  }
}
console.log(JSON.stringify({ version: process.version, failure }));`;

/** ms */
const PROBE_TIMEOUT = 10_000;

/**
 * Runs the probe with no more rights than the user of the service has.
 *
 * @param script the program, which may be a bundle and have the addon beside itself
 */
export async function readNode(
  file: string,
  installation: ReturnType<typeof packageOf>,
  script: string | undefined,
  user: { uid: number; gids: number[] } | undefined,
): Promise<NodeFacts> {
  const { root } = installation;
  const facts = { file, ...installation, engines: readManifest(root)?.engines?.node ?? "*" };
  const isOther = user !== undefined && process.getuid?.() === 0 && user.uid !== 0;
  const who = isOther ? { uid: user.uid, gid: user.gids[0]! } : {};
  try {
    // An empty environment, because NODE_OPTIONS of the program may load any code.
    const options = { timeout: PROBE_TIMEOUT, env: {}, cwd: "/", ...who };
    const places = [...(script === undefined ? [] : [join(dirname(script), ADDON)]), ...packagedAddons(root)];
    const { stdout } = await promisify(execFile)(file, ["-e", PROBE, ...places], options);
    const { version, failure } = JSON.parse(stdout) as { version: string; failure?: string };
    return { ...facts, version, addonFailure: failure };
  } catch (cause) {
    const { stderr, killed } = cause as { stderr?: string; killed?: boolean };
    const failure =
      killed === true
        ? `no answer within ${PROBE_TIMEOUT} ms`
        : stderr?.trim().split("\n")[0] || reasonOf(cause);
    return { ...facts, version: { failure }, addonFailure: undefined };
  }
}

/**
 * Whether a version of Node satisfies a package's `engines`. Only ranges with nothing but a lower bound are
 * understood.
 */
export function fitsEngines(version: string, range: string): boolean {
  const least = /^>=\s*(\d+(?:\.\d+){0,2})$/.exec(range.trim())?.[1];
  if (least === undefined) return true;
  const [have, need] = [numbers(version), numbers(least)];
  const differing = need.findIndex((n, i) => n !== (have[i] ?? 0));
  return differing < 0 || (have[differing] ?? 0) > need[differing]!;
}

function numbers(version: string): number[] {
  return version.replace(/^v/, "").split(/[.-]/).slice(0, 3).map(Number);
}
