import { fstatSync, writeSync } from "node:fs";
import { reasonOf } from "../errors.js";
import { REPORTER_NAME } from "./preload.js";

/** An error that a successor did not catch, as it sends it. */
export interface UncaughtError {
  name?: string;
  code?: string;
  message: string;
  stack?: string;
}

/**
 * Sends each error that this process does not catch to its predecessor, on the channel that the variable `HANDOVER_CHANNEL`
 * names. The preload does so already, if there is one.
 */
export function reportUncaught(channel: string): void {
  if (reporters().length > 0) return;
  const [fd, inode] = channel.split(":");
  const report = (error: unknown): void => {
    try {
      // The channel may be closed, and its number be that of another file.
      if (String(fstatSync(Number(fd), { bigint: true }).ino) !== inode) return;
      writeSync(Number(fd), JSON.stringify({ type: "uncaught", ...toFields(error) }));
    } catch {
      // The predecessor is gone, or the error cannot be read. Node prints it in any case.
    }
  };
  Object.defineProperty(report, "name", { value: REPORTER_NAME });
  process.on("uncaughtExceptionMonitor", report);
}

/** Sends no more errors: this process is confirmed. */
export function stopReporting(): void {
  for (const reporter of reporters()) process.off("uncaughtExceptionMonitor", reporter);
}

/** One line for people. Control characters are shown as escapes: the line ends up on terminals. */
export function describeUncaught(error: UncaughtError): string {
  const { name, code, message } = error;
  const kind = code === undefined || message.includes(code) ? name : `${name} [${code}]`;
  const place = placeOf(error);
  const end = place === undefined ? "" : cut(` (at ${shown(place)})`, MAX_LENGTH / 4);
  const begin = shown(kind === undefined ? message : `${kind}: ${message}`);
  return cut(begin, MAX_LENGTH - Buffer.byteLength(end)) + end;
}

/**
 * Where the error was thrown: the first place of its stack that is not Node's own. The stack of a syntax error begins with
 * the place, without `at`.
 */
export function placeOf({ stack = "" }: UncaughtError): string | undefined {
  const [first = ""] = stack.split("\n", 1);
  if (/^(\/|file:).*:\d+$/.test(first)) return first;
  const places = [...stack.matchAll(/^ {4}at (?:async )?(?:.* \()?(.+:\d+:\d+)\)?$/gm)].map(
    ([, place]) => place,
  );
  return places.find((place) => !place!.startsWith("node:"));
}

function reporters(): NodeJS.UncaughtExceptionListener[] {
  return process.listeners("uncaughtExceptionMonitor").filter(({ name }) => name === REPORTER_NAME);
}

function toFields(error: unknown): Record<string, string | undefined> {
  const { name, code, stack, message = String(error) } = Object(error) as Record<string, unknown>;
  return { name: text(name), code: text(code), message: text(message), stack: ends(stack) };
}

/** The stack without a message that may be long. */
function ends(stack: unknown): string | undefined {
  if (typeof stack !== "string") return undefined;
  return `${stack.split("\n", 1)[0]!.slice(0, MAX_LENGTH)}\n${stack.slice(-MAX_LENGTH)}`;
}

function text(value: unknown): string | undefined {
  return value === undefined ? undefined : reasonOf(value).slice(0, MAX_LENGTH);
}

/** Bytes of the line, and characters of each field. */
const MAX_LENGTH = 4096;

/** At most `most` bytes. A character of several bytes is not cut in two. */
function cut(line: string, most: number): string {
  const bytes = Buffer.from(line);
  if (bytes.length <= most) return line;
  const kept = bytes.subarray(0, most - Buffer.byteLength(ELLIPSIS));
  return new TextDecoder().decode(kept, { stream: true }) + ELLIPSIS;
}

const ELLIPSIS = "…";

function shown(words: string): string {
  return words.replaceAll(/[\p{Cc}\p{Bidi_Control}]/gu, (one) => ESCAPES[one] ?? escape(one));
}

const ESCAPES: Record<string, string> = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };

function escape(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
}
