import { check, native } from "../platform/native.js";
import { identify, type InventoryItem } from "../sockets/inventory.js";
import { boundTo } from "../sockets/describe.js";
import { readStoreName } from "./store.js";

/** The descriptors that systemd has passed to this process. */
interface Activation {
  items: InventoryItem[];
  /** The names of descriptors that earlier processes have put into the store. */
  stored: string[];
}

/**
 * Takes the descriptors of `LISTEN_FDS`, if they are meant for this process. Deletes the variables from `env`,
 * because the descriptors are not meant for programs that this one starts. Descriptors from the store get their old
 * names; others get the `activation` of their FileDescriptorName=.
 *
 * @param keepsMembers whether all members of a reuse-port group are taken; otherwise one of them
 */
export function takeActivation(env: NodeJS.ProcessEnv, pid = process.pid, keepsMembers = false): Activation {
  const { LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES = "" } = env;
  for (const name of VARIABLES) delete env[name];
  const count = Number(LISTEN_PID) === pid ? Number(LISTEN_FDS) : 0;
  const activation: Activation = { items: [], stored: [] };
  if (!Number.isInteger(count)) return activation;
  const names = LISTEN_FDNAMES.split(":");
  const taken = new Set<string>();
  for (let n = 0; n < count; n++) {
    const fdName = names[n] || "unknown";
    const fd = own(FIRST + n);
    const stored = readStoreName(fdName);
    if (stored !== undefined) activation.stored.push(fdName);
    const item =
      stored === undefined
        ? { name: uniqueName(fdName, taken), fd, activation: fdName }
        : restore(stored, fd);
    const key = keepsMembers && item?.member !== undefined ? fdName : (item?.name ?? "");
    if (item === undefined || taken.has(key)) native().close(fd);
    else activation.items.push(item);
    taken.add(key);
  }
  return activation;
}

/** Clients of a socket that nothing accepts on would wait for ever. */
export function warnAboutUnused(items: readonly InventoryItem[]): void {
  if (items.length === 0) return;
  const names = items.map(
    ({ activation, name, fd }) => `${activation ?? name} (${boundTo(fd).address ?? "no socket"})`,
  );
  process.emitWarning(
    `systemd has passed ${names.join(", ")}, but nothing listens on it; it stays open, and successors inherit it. listen() ` +
      "finds a socket by its `name`, which must equal FileDescriptorName=, or by its address.",
    { code: "HANDOVER_UNUSED_SOCKET" },
  );
}

const VARIABLES = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID"];

/** SD_LISTEN_FDS_START */
const FIRST = 3;

/** Makes a descriptor close-on-exec, as every descriptor of this package is. */
function own(fd: number): number {
  const duplicate = check(native().duplicate(fd), "take from systemd", `descriptor ${fd}`);
  native().close(fd);
  return duplicate;
}

/** Several sockets of a unit may have the same name. */
function uniqueName(name: string, taken: ReadonlySet<string>): string {
  for (let n = 1; ; n++) {
    const candidate = n === 1 ? name : `${name}#${n}`;
    if (!taken.has(candidate)) return candidate;
  }
}

/** Undefined for a Unix listener that no client can reach, because its file was removed or replaced. */
function restore(
  { name, dev, ino, member }: NonNullable<ReturnType<typeof readStoreName>>,
  fd: number,
): InventoryItem | undefined {
  if (dev === undefined || ino === undefined)
    return { name, fd, stored: true, ...(member === undefined ? {} : { member }) };
  const { address } = check(native().describe(fd), "describe the descriptor of", name);
  try {
    const file = identify(address);
    return file.dev === dev && file.ino === ino ? { name, fd, file, stored: true } : undefined;
  } catch {
    return undefined;
  }
}
