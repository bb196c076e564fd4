import { check, native } from "../platform/native.js";
import { identify, type InventoryItem } from "../sockets/inventory.js";
import { boundTo } from "../sockets/describe.js";
import { readStoreName } from "./store.js";

/** What systemd has passed to this process. */
interface Activation {
  items: InventoryItem[];
  /** The names in the descriptor store, under which earlier processes have left some. */
  stored: string[];
}

/**
 * Takes the descriptors of `LISTEN_FDS`, if they are meant for this process, and the variables out of `env`: programs
 * that this one starts have none. Those that this package has left in the store are what they were; others get the
 * `activation` of their FileDescriptorName=.
 */
export function takeActivation(env: NodeJS.ProcessEnv, pid = process.pid): Activation {
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
    const kept = readStoreName(fdName);
    if (kept !== undefined) activation.stored.push(fdName);
    const item =
      kept === undefined ? { name: free(fdName, taken), fd, activation: fdName } : restore(kept, fd);
    if (item === undefined || taken.has(item.name)) native().close(fd);
    else activation.items.push(item);
    taken.add(item?.name ?? "");
  }
  return activation;
}

/** Clients would wait for ever where nobody accepts. */
export function warnAboutUnused(items: readonly InventoryItem[]): void {
  if (items.length === 0) return;
  const names = items.map(
    ({ activation, name, fd }) => `${activation ?? name} (${boundTo(fd).address ?? "no socket"})`,
  );
  process.emitWarning(
    `systemd has passed ${names.join(", ")}, which nothing listens on; it is kept, and handed on. A listener is found ` +
      "by listen()'s `name`, which has to be the FileDescriptorName=, or by its address.",
    { code: "HANDOVER_UNUSED_SOCKET" },
  );
}

const VARIABLES = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID"];

/** SD_LISTEN_FDS_START */
const FIRST = 3;

/** Close-on-exec, as every descriptor here is. */
function own(fd: number): number {
  const duplicate = check(native().duplicate(fd), "take from systemd", `descriptor ${fd}`);
  native().close(fd);
  return duplicate;
}

/** Several sockets of a unit may have one name. */
function free(name: string, taken: ReadonlySet<string>): string {
  for (let n = 1; ; n++) {
    const candidate = n === 1 ? name : `${name}#${n}`;
    if (!taken.has(candidate)) return candidate;
  }
}

/** Undefined for a Unix listener that no client can reach any more, as its file has gone or is another's. */
function restore(
  { name, dev, ino }: NonNullable<ReturnType<typeof readStoreName>>,
  fd: number,
): InventoryItem | undefined {
  if (dev === undefined || ino === undefined) return { name, fd, stored: true };
  const { address } = check(native().describe(fd), "describe the descriptor of", name);
  try {
    const file = identify(address);
    return file.dev === dev && file.ino === ino ? { name, fd, file, stored: true } : undefined;
  } catch {
    return undefined;
  }
}
