import { count, grouped, paint } from "../output.js";
import type { Summary } from "./tally.js";

/** The result of a demo, for people. */
export function renderTable({ kinds, failures, upgrades }: Summary): string {
  const rows = Object.entries(kinds).map(([kind, one]) => [
    kind,
    grouped(one.requests),
    String(one.failed),
    // A client that opens a connection for each request closes it itself.
    kind === "fresh" ? "–" : String(one.closed),
    milliseconds(one.p50),
    milliseconds(one.p99),
  ]);
  const took = `p50 ${milliseconds(upgrades.p50)}, max ${milliseconds(upgrades.max)}`;
  return [
    paint("bold", renderRow(["", "requests", "failed", "closed", "p50", "p99"])),
    ...rows.map(renderRow),
    "",
    `${count(upgrades.count, "upgrade")}, from the request to the commit: ${took}`,
    ...failures.map(({ kind, code, count: n }) => paint("red", `failed: ${kind} ${code} × ${n}`)),
    paint("dim", `closed: connections that clients saw end; the others moved from process to process`),
  ].join("\n");
}

/** In one unit, so that the figures of a column can be compared. */
function milliseconds(ms: number): string {
  return `${ms < 10 ? ms.toFixed(1) : grouped(Math.round(ms))} ms`;
}

function renderRow([first = "", ...rest]: string[]): string {
  return first.padEnd(12) + rest.map((cell) => cell.padStart(10)).join("");
}
