import { readFileSync, statSync } from "node:fs";
import { parseEnv } from "node:util";
import { reasonOf } from "../errors.js";
import { launchInfo } from "../process/launch-info.js";
import { WrongOption } from "../util/validation.js";

/**
 * A function that returns the environment of a worker that starts now: that of this process, the variables of the file as they
 * are now, and `env`, in this order.
 *
 * @throws {HandoverError} `ERR_OPTION` if the file cannot be read; the function throws it, too
 */
export function environmentReader(file: string | undefined, env: NodeJS.ProcessEnv): () => NodeJS.ProcessEnv {
  const read = (): NodeJS.ProcessEnv => ({ ...launchInfo.env, ...readVariables(file), ...env });
  read();
  return read;
}

function readVariables(file: string | undefined): NodeJS.ProcessEnv {
  if (file === undefined) return {};
  try {
    // A pipe would block this process until its other end is closed.
    if (!statSync(file).isFile()) throw new Error("it is not a file");
    const bytes = readFileSync(file);
    if (bytes.length > LONGEST) throw new Error(`it is longer than ${LONGEST} bytes`);
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    // The kernel would take a value only up to there.
    if (text.includes("\0")) throw new Error("it contains a NUL");
    requireAssignments(text);
    return parseEnv(text);
  } catch (cause) {
    throw new WrongOption("envFile", `names a file that cannot be read, ${file}: ${reasonOf(cause)}`, {
      cause,
    });
  }
}

/** Node ignores a line that it does not understand, and Node 20 the next one, too: a variable would be missing. */
function requireAssignments(text: string): void {
  let end = 0;
  for (const [line] of text.matchAll(LINE)) end += line.length;
  if (end < text.length) throw new Error(`line ${text.slice(0, end).split("\n").length} is not NAME=value`);
}

/** Empty, a comment, or an assignment, whose value may have several lines between quotes. */
const LINE =
  /[ \t]*(?:#.*|(?:export[ \t]+)?[\w.-]+[ \t]*=[ \t]*(?:"[^"]*"|'[^']*'|`[^`]*`)?.*)?(?:\r?\n|$)/gy;

/** Bytes. The kernel refuses a longer environment. */
const LONGEST = 1_024 ** 2;
