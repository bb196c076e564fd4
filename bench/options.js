// Reads the command lines of the benchmarks.
import { readFileSync } from "node:fs";
import { dirname, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const OWN_FILE = fileURLToPath(import.meta.url);

export const FLAG = { type: "boolean", default: false };

export const TEXT = { type: "string", read: (text) => text };

export function wholeNumber(initial, least = 1) {
  return { type: "string", default: String(initial), read: (text) => requireWhole(text, least) };
}

/** Whole numbers from 1 on, with commas. */
export function wholeNumbers(initial) {
  return { type: "string", default: initial.join(), read: requireAllWhole };
}

/** Some of `all`, with commas. */
export function someOf(all, initial = all) {
  const read = (text) =>
    text.split(",").map((one) => {
      if (all.includes(one)) return one;
      throw new Error(`may have ${all.join(", ")}, not "${one}"`);
    });
  return { type: "string", default: initial.join(), read };
}

/**
 * The values of the options of a benchmark, by name. `--help` prints the comment at the top of its program. A wrong command line
 * ends it with one line on stderr, and the exit code 2.
 *
 * @param url of the program
 * @param options by name, as this module has them
 */
export function readOptions(url, options) {
  const file = fileURLToPath(url);
  try {
    const { values } = parseArgs({ options: { ...options, help: FLAG } });
    if (values.help) {
      console.log(headOf(file));
      process.exit(0);
    }
    const given = Object.keys(options).filter((name) => values[name] !== undefined);
    return Object.fromEntries(given.map((name) => [name, valueOf(name, options[name], values[name])]));
  } catch ({ message }) {
    // Node's own messages go on with advice, some of them on further lines.
    const why = message.split(/\.\s/, 1)[0];
    console.error(`${relative(dirname(OWN_FILE), file)}: ${why}; --help shows the options`);
    return process.exit(2);
  }
}

function valueOf(name, { read }, text) {
  try {
    return read === undefined ? text : read(text);
  } catch (cause) {
    throw new Error(`--${name} ${cause.message}`, { cause });
  }
}

function requireAllWhole(text) {
  return text.split(",").map((one) => requireWhole(one, 1));
}

function requireWhole(text, least) {
  if (/^\d{1,15}$/.test(text) && Number(text) >= least) return Number(text);
  throw new Error(`must be a whole number from ${least} on, not "${text}"`);
}

function headOf(file) {
  const [head] = /^(\/\/.*\n)*/.exec(readFileSync(file, "utf8"));
  return head.replaceAll(/^\/\/ ?/gm, "").trimEnd();
}
