/** What a program asks `server.listen()` for, as far as handover takes it over. */
export interface ListenWish {
  readonly options: {
    port?: number;
    host?: string;
    path?: string;
    backlog?: number;
    ipv6Only?: boolean;
    readableAll?: boolean;
    writableAll?: boolean;
    signal?: AbortSignal;
  };
  readonly callback: (() => void) | undefined;
}

/**
 * Reads the arguments of `server.listen()` in every form that Node has. Undefined for a call that is left to Node: on a handle or a
 * descriptor, on port 0, which is for the program's own use, and with arguments that Node refuses.
 */
export function readListenArguments(args: readonly unknown[]): ListenWish | undefined {
  const callback = args.findLast((arg) => typeof arg === "function") as (() => void) | undefined;
  const [first, second, third] = args.filter((arg) => typeof arg !== "function");
  if (typeof first === "object" && first !== null) {
    const options = fromObject(first as Record<string, unknown>, second);
    return options && { options, callback };
  }
  const port = portOf(first);
  if (port !== undefined) {
    const host = typeof second === "string" && second !== "" ? { host: second } : {};
    // The backlog is the second or the third argument.
    const backlog =
      host.host === undefined ? { ...backlogOf(third), ...backlogOf(second) } : backlogOf(third);
    return { options: { port, ...host, ...backlog }, callback };
  }
  if (typeof first !== "string" || Number(first) >= 0) return undefined;
  return { options: { path: first, ...backlogOf(second) }, callback };
}

function fromObject(given: Record<string, unknown>, second: unknown): ListenWish["options"] | undefined {
  const { port, host, path, backlog, ipv6Only, readableAll, writableAll, signal } = given;
  if ("_handle" in given || "handle" in given || given["fd"] !== undefined) return undefined;
  const common = {
    ...backlogOf(backlog ?? second),
    ...(signal instanceof AbortSignal ? { signal } : {}),
  };
  const number = portOf(port);
  if (number !== undefined) {
    const name = typeof host === "string" && host !== "" ? { host } : {};
    return { port: number, ...name, ...(ipv6Only === true ? { ipv6Only } : {}), ...common };
  }
  // Node looks at the port first.
  if ((port !== undefined && port !== null) || typeof path !== "string") return undefined;
  const modes = {
    ...(readableAll === true ? { readableAll } : {}),
    ...(writableAll === true ? { writableAll } : {}),
  };
  return { path, ...modes, ...common };
}

/** A port that other programs know. */
function portOf(value: unknown): number | undefined {
  const port = typeof value === "number" || isNumber(value) ? Number(value) : 0;
  return Number.isInteger(port) && port > 0 && port <= 65_535 ? port : undefined;
}

export function isNumber(value: unknown): boolean {
  return typeof value === "string" && value.trim() !== "" && !Number.isNaN(Number(value));
}

function backlogOf(value: unknown): { backlog?: number } {
  const backlog = Number(value);
  return value !== undefined && Number.isInteger(backlog) && backlog > 0 ? { backlog } : {};
}
