import { unlinkSync } from "node:fs";
import { isIP } from "node:net";
import { builtins } from "../platform/builtins.js";
import { type RequestedAddress, describeAddress } from "../address.js";
import { HandoverError } from "../errors.js";
import { check, native, systemCause, systemError } from "../platform/native.js";
import { findPortOwner } from "./port-owner.js";
import { identify, type InventoryItem } from "./inventory.js";
import { isStale } from "./stale-socket.js";

export interface OpenOptions {
  /** Of listen(2); not used for UDP. */
  backlog: number;
  /** Of the file of a Unix listener; -1: by the umask. */
  mode: number;
  /** The family of a host name's address; absent: either. */
  family?: 4 | 6;
}

/**
 * Binds an address, and listens on it: `bind` alone would reserve nothing.
 *
 * @param predecessor the PID that the error names as the predecessor, if it holds the address
 * @throws {HandoverError} `ERR_LISTEN`; `cause.code` is the system's
 */
export async function openSocket(
  address: RequestedAddress,
  options: OpenOptions,
  predecessor: number | undefined,
): Promise<Omit<InventoryItem, "name">> {
  try {
    const fd =
      address.kind === "unix"
        ? bindPath(address.path, options.mode)
        : await bindHost(address, options.family);
    if (address.kind !== "udp") listen(fd, options.backlog);
    return { fd, address, ...fileOf(address) };
  } catch (error) {
    const cause = systemCause(error);
    const { code } = cause as NodeJS.ErrnoException;
    const owner = code === "EADDRINUSE" ? findPortOwner(address, predecessor) : undefined;
    const why = (code ?? String(cause)) + (owner === undefined ? "" : ` (held by ${owner})`);
    throw new HandoverError("ERR_LISTEN", `cannot listen on ${describeAddress(address)}: ${why}`, { cause });
  }
}

async function lookUp(host: string, family: 4 | 6 | undefined): Promise<string> {
  const { address } = await builtins.dns.lookup(host, family === undefined ? {} : { family });
  return address;
}

/** As Node does: a name is looked up, and its first address bound; `*` is every IPv6 and every IPv4 address. */
async function bindHost(
  { kind, host, port, ipv6Only }: RequestedAddress & { kind: "tcp" | "udp" },
  family: 4 | 6 | undefined,
): Promise<number> {
  const type = kind === "tcp" ? "stream" : "dgram";
  if (host !== "*") {
    if (family === undefined) {
      // isIP() compiles a large regular expression: it is asked only if the system takes the host for no address.
      const fd = native().bindInet(type, host, port, ipv6Only);
      if (fd >= 0) return fd;
    }
    const address = isIP(host) === 0 ? await lookUp(host, family) : host;
    if (family !== undefined && isIP(address) !== family)
      throw systemError(-builtins.os.constants.errno.EINVAL, "bind", host);
    return check(native().bindInet(type, address, port, ipv6Only), "bind", host);
  }
  const fd = native().bindInet(type, "::", port, ipv6Only);
  if (fd >= 0 || ipv6Only || !NO_IPV6.has(systemError(fd, "bind", host).code!))
    return check(fd, "bind", host);
  return check(native().bindInet(type, "0.0.0.0", port, false), "bind", host);
}

const NO_IPV6 = new Set(["EAFNOSUPPORT", "EADDRNOTAVAIL", "EINVAL"]);

/** A stale socket file, left behind by a process that died, is replaced. */
function bindPath(path: string, mode: number): number {
  const fd = native().bindUnix(path, mode);
  if (fd >= 0 || path.startsWith("\0") || systemError(fd, "bind", path).code !== "EADDRINUSE") {
    return check(fd, "bind", path);
  }
  if (!isStale(path)) return check(fd, "bind", path);
  unlinkSync(path);
  return check(native().bindUnix(path, mode), "bind", path);
}

function listen(fd: number, backlog: number): void {
  const result = native().listen(fd, backlog);
  if (result >= 0) return;
  native().close(fd);
  check(result, "listen on", `descriptor ${fd}`);
}

function fileOf(address: RequestedAddress): Pick<InventoryItem, "file"> {
  if (address.kind !== "unix" || address.path.startsWith("\0")) return {};
  return { file: identify(address.path) };
}
