import { lookup } from "node:dns/promises";
import { lstatSync, unlinkSync } from "node:fs";
import { connect, isIP } from "node:net";
import { constants } from "node:os";
import { type RequestedAddress, describeAddress } from "../address.js";
import { HandoverError } from "../errors.js";
import { check, native, systemCause, systemError } from "../platform/native.js";
import { findPortOwner } from "./port-owner.js";
import { identify, type InventoryItem } from "./inventory.js";

interface OpenOptions {
  /** Of listen(2); for UDP there is none. */
  backlog: number;
  /** Of the file of a Unix listener; -1: as the umask has it. */
  mode: number;
  /** Which addresses of a host name will do; both, if it is left out. */
  family?: 4 | 6;
}

/**
 * Binds an address, and listens on it: `bind` alone would reserve nothing.
 *
 * @param predecessor the PID to name as the predecessor, should it hold the address
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
        ? await bindPath(address.path, options.mode)
        : await bindHost(address, options.family);
    if (address.kind !== "udp") listen(fd, options.backlog);
    return { fd, address, ...fileOf(address) };
  } catch (error) {
    const cause = systemCause(error);
    const { code } = cause as NodeJS.ErrnoException;
    const holder = code === "EADDRINUSE" ? findPortOwner(address, predecessor) : undefined;
    const why = (code ?? String(cause)) + (holder === undefined ? "" : ` (held by ${holder})`);
    throw new HandoverError("ERR_LISTEN", `cannot listen on ${describeAddress(address)}: ${why}`, { cause });
  }
}

/** As Node does: a name is looked up, first address; no host is every IPv6 address and every IPv4 one. */
async function bindHost(
  { kind, host, port, ipv6Only }: RequestedAddress & { kind: "tcp" | "udp" },
  family: 4 | 6 | undefined,
): Promise<number> {
  const type = kind === "tcp" ? "stream" : "dgram";
  if (host !== "*") {
    const { address } = await lookup(host, family === undefined ? {} : { family });
    // An address of the other family is looked up as itself.
    if (family !== undefined && isIP(address) !== family)
      throw systemError(-constants.errno.EINVAL, "bind", host);
    return check(native().bindInet(type, address, port, ipv6Only), "bind", host);
  }
  const fd = native().bindInet(type, "::", port, ipv6Only);
  if (fd >= 0 || ipv6Only || !NO_IPV6.has(systemError(fd, "bind", host).code!))
    return check(fd, "bind", host);
  return check(native().bindInet(type, "0.0.0.0", port, false), "bind", host);
}

const NO_IPV6 = new Set(["EAFNOSUPPORT", "EADDRNOTAVAIL", "EINVAL"]);

/** A file at which a connect is refused was left behind by a process that died, and is replaced. */
async function bindPath(path: string, mode: number): Promise<number> {
  const fd = native().bindUnix(path, mode);
  if (fd >= 0 || path.startsWith("\0") || systemError(fd, "bind", path).code !== "EADDRINUSE") {
    return check(fd, "bind", path);
  }
  if (!(await isStale(path))) return check(fd, "bind", path);
  unlinkSync(path);
  return check(native().bindUnix(path, mode), "bind", path);
}

/** Only a refusal says that nobody listens; a listener with a full queue answers EAGAIN. */
async function isStale(path: string): Promise<boolean> {
  if (lstatSync(path, { throwIfNoEntry: false })?.isSocket() !== true) return false;
  return new Promise((resolve) => {
    const probe = connect(path);
    probe.once("connect", () => {
      probe.destroy();
      resolve(false);
    });
    probe.once("error", (error: NodeJS.ErrnoException) => resolve(error.code === "ECONNREFUSED"));
  });
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
