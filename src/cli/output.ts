import { stripVTControlCharacters, styleText } from "node:util";

/** Prints one line of JSON. */
export function writeJson(value: object): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

/** Prints a line for people, in place of the line that {@link repaint} left. */
export function writeText(text = ""): void {
  process.stdout.write(`${clear()}${text}\n`);
}

/** Shows a line that the next one replaces; only on a terminal. */
export function repaint(text: string): void {
  if (!process.stdout.isTTY) return;
  // A longer line would be wrapped, and only its last row be replaced.
  const width = (process.stdout.columns || 80) - 1;
  const plain = stripVTControlCharacters(text);
  process.stdout.write(clear() + (plain.length > width ? plain.slice(0, width) : text));
}

/** Clears the screen of a terminal; elsewhere one output follows the other. */
export function clearScreen(): void {
  if (process.stdout.isTTY) process.stdout.write("\u001b[H\u001b[2J");
}

/** Colours a text on a terminal, unless NO_COLOR is set. */
export function paint(style: "bold" | "dim" | "green" | "red" | "yellow", text: string): string {
  const { stdout, env } = process;
  return stdout.isTTY && !env["NO_COLOR"] && stdout.hasColors() ? styleText(style, text) : text;
}

/** A duration in ms, for people. */
export function duration(ms: number): string {
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  const s = Math.round(ms / 1_000);
  if (s < 60) return `${s} s`;
  const min = Math.floor(s / 60);
  if (min < 60) return `${min} min ${s % 60} s`;
  const h = Math.floor(min / 60);
  return h < 24 ? `${h} h ${min % 60} min` : `${Math.floor(h / 24)} d ${h % 24} h`;
}

/** `1 connection`, `2 connections`. */
export function count(n: number, noun: string): string {
  return `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;
}

/** The command has failed, and has printed why. */
export class Reported extends Error {}

function clear(): string {
  return process.stdout.isTTY ? "\r\u001b[2K" : "";
}
