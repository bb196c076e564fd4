// Writes what V8 has compiled of a script beside it, for the version of Node that runs here.
import { renameSync, writeFileSync } from "node:fs";
import { buildSettings, compiledFile } from "../dist/platform/start-script.js";

/** @returns the path of the file */
export function writeCompiled(path, script) {
  const file = compiledFile(path);
  // In one step: a process that starts meanwhile would read a part.
  writeFileSync(`${file}.part`, Buffer.concat([Buffer.from(buildSettings()), script.createCachedData()]));
  renameSync(`${file}.part`, file);
  return file;
}
