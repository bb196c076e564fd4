// Builds the addon with the headers that are installed with this Node. node-gyp would download them, which fails on a machine
// without a way to the internet. The setting `nodedir` of npm takes precedence.
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";

const prefix = dirname(dirname(process.execPath));
const headers = headersVersion() === process.versions.node ? { npm_config_nodedir: prefix } : {};
const options = { stdio: "inherit", env: { ...headers, ...process.env } };
const { status, error } = spawnSync("node-gyp", ["rebuild"], options);
if (error !== undefined) throw error;
process.exitCode = status ?? 1;

/** Undefined if there are none. */
function headersVersion() {
  try {
    const text = readFileSync(join(prefix, "include/node/node_version.h"), "utf8");
    const parts = ["MAJOR", "MINOR", "PATCH"].map((part) =>
      new RegExp(`^#define NODE_${part}_VERSION (\\d+)`, "m").exec(text)?.at(1),
    );
    return parts.join(".");
  } catch {
    return undefined;
  }
}
