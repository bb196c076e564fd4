import { builtins } from "../platform/builtins.js";

/** Whether a debugger may stop this process, which is then silent without being ill. */
export function isInspected(): boolean {
  return builtins.inspector.url() !== undefined;
}

/**
 * The options of Node with which its inspector listens on a port of the system's choice. On a fixed port the successor would
 * have no inspector, because this process still holds it. Node prints the port.
 */
export function withOtherInspectorPort(options: readonly string[]): string[] {
  return options.map((word, n) => {
    if (PORT.test(options[n - 1] ?? "")) return otherPort(word);
    const [, quote = "", name, value = ""] = OPTION.exec(word) ?? [];
    if (name === undefined || (PORT.test(word) && n + 1 < options.length)) return word;
    return `${quote}${name}=${otherPort(value)}${quote}`;
  });
}

/** The port on which options of Node start its inspector, 0 for one that the system chooses; undefined: none is started. */
export function inspectorPortOf(options: readonly string[]): number | undefined {
  let isStarted = false;
  let port = 9229;
  for (const [n, word] of options.entries()) {
    const [, , name, value = PORT.test(word) ? options[n + 1] : undefined] = OPTION.exec(word) ?? [];
    if (name === undefined) continue;
    isStarted ||= !PORT.test(name);
    const [given] = /\d+$/.exec(value ?? "") ?? [];
    if (given !== undefined) port = Number(given);
  }
  return isStarted ? port : undefined;
}

/** `--inspect`, `--inspect=9229`, `--inspect-brk=localhost:9229`, and the same in quotes, as NODE_OPTIONS may have it. */
const OPTION = /^("?)(--(?:inspect(?:[-_](?:brk|wait|port))?|debug[-_]port))(?:=([^"]*))?\1$/;

/** An option whose value may be the next word. */
const PORT = /^"?--(?:inspect|debug)[-_]port"?$/;

/** `value` is a port, a host, or both. */
function otherPort(value: string): string {
  if (/^\d*$/.test(value)) return "0";
  return `${value.replace(/:\d+$/, "")}:0`;
}
