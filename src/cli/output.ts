import { stripVTControlCharacters, styleText } from "node:util";

/** Prints one line of JSON. */
export function writeJson(value: object): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

/** Prints a line for people, in place of what {@link repaint} left. */
export function writeText(text = ""): void {
  process.stdout.write(`${clear()}${text}\n`);
}

/** Shows one line that the next replaces; nothing where that is impossible. */
export function repaint(text: string): void {
  if (!process.stdout.isTTY) return;
  // A longer one would be wrapped, and then only its last piece be replaced.
  const room = (process.stdout.columns || 80) - 1;
  const plain = stripVTControlCharacters(text);
  process.stdout.write(clear() + (plain.length > room ? plain.slice(0, room) : text));
}

/** Begins a new picture where there is a screen; else the pictures follow each other. */
export function clearScreen(): void {
  if (process.stdout.isTTY) process.stdout.write("\u001b[H\u001b[2J");
}

/** Colours a text where colours are wanted: on a terminal, and without NO_COLOR. */
export function paint(style: "bold" | "dim" | "green" | "red" | "yellow", text: string): string {
  const { stdout, env } = process;
  return stdout.isTTY && !env["NO_COLOR"] && stdout.hasColors() ? styleText(style, text) : text;
}

/** ms as people read them. */
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

/** The command has failed, and has said all that there is to say. */
export class Reported extends Error {}

function clear(): string {
  return process.stdout.isTTY ? "\r\u001b[2K" : "";
}
