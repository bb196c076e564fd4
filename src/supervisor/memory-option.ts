import { wrongOption } from "../util/validation.js";

/**
 * A size of memory in bytes.
 *
 * @throws {HandoverError} `ERR_OPTION`
 */
export function readMemory(value: unknown): number | undefined {
  if (value === undefined) return undefined;
  const bytes = typeof value === "string" ? parse(value) : value;
  if (Number.isSafeInteger(bytes) && (bytes as number) >= LEAST) return bytes as number;
  throw wrongOption("maxMemory", 'bytes, or a text such as "512M" or "2G", at least 1M', value);
}

function parse(text: string): number {
  const [, digits = "", unit = ""] = /^(\d{1,15})([KMG]?)B?$/i.exec(text) ?? [];
  return digits === "" ? Number.NaN : Number(digits) * UNITS[unit.toUpperCase()]!;
}

const UNITS: Record<string, number> = { "": 1, K: 1_024, M: 1_024 ** 2, G: 1_024 ** 3 };

/** Bytes: "512" without its unit would have every worker replaced for ever. */
const LEAST = 1_024 ** 2;
