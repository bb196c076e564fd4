import { isIP } from "node:net";
import { builtins } from "../platform/builtins.js";
import type { RequestedAddress } from "../address.js";
import { native, type SocketDescription } from "../platform/native.js";
import type { Inventory, InventoryItem } from "./inventory.js";
import type { ListenRequest } from "./listen-options.js";

/**
 * Takes a descriptor that systemd has passed into use: one that an earlier process has left in the descriptor store under
 * `name`, if it is bound as requested; one of a socket unit by its FileDescriptorName=, wherever it is bound; or one of a
 * socket unit by its address.
 */
export async function takeActivated(
  inventory: Inventory,
  name: string,
  { address, name: ownName }: Pick<ListenRequest, "address" | "name">,
): Promise<InventoryItem | undefined> {
  if (!inventory.inherited().some(isActivated)) return undefined;
  const hosts = await hostsOf(address);
  const candidates = inventory.inherited().filter((item) => isActivated(item) && isAlike(address, item));
  const isThere = (item: InventoryItem): boolean => isBoundTo(address, hosts, item);
  const units = candidates.filter((item) => item.activation !== undefined);
  const named = units.filter((item) => ownName !== undefined && item.activation === ownName);
  const found =
    candidates.find((item) => item.stored === true && item.name === name && isThere(item)) ??
    named.find(isThere) ??
    named[0] ??
    units.find((item) => isThere(item) && portOf(address) !== 0);
  return found && inventory.rename(found, { name, address });
}

/** Whether a descriptor is bound as requested. */
export async function isBoundAs(address: RequestedAddress, item: InventoryItem): Promise<boolean> {
  return isAlike(address, item) && isBoundTo(address, await hostsOf(address), item);
}

function isActivated(item: InventoryItem): boolean {
  return item.stored === true || item.activation !== undefined;
}

/** Whether a descriptor is a listener for a server, or a datagram socket for a datagram socket. */
function isAlike(address: RequestedAddress, { fd }: InventoryItem): boolean {
  const socket = native().describe(fd);
  if (typeof socket === "number") return false;
  return address.kind === "udp" ? socket.type === "dgram" && socket.family !== "unix" : socket.listening;
}

function isBoundTo(address: RequestedAddress, hosts: readonly string[], { fd }: InventoryItem): boolean {
  const socket = native().describe(fd) as SocketDescription;
  if (address.kind === "unix") return socket.family === "unix" && socket.address === address.path;
  if (socket.family === "unix" || !hosts.includes(socket.address)) return false;
  if (socket.family === "inet6" && socket.ipv6Only !== address.ipv6Only && socket.address === "::")
    return false;
  return address.port === 0 || address.port === socket.port;
}

/** A unit may bind every IPv4 address only, and then `*` could not be bound beside it. */
async function hostsOf(address: RequestedAddress): Promise<string[]> {
  if (address.kind === "unix") return [];
  if (address.host === "*") return address.ipv6Only ? ["::"] : ["::", "0.0.0.0"];
  if (isIP(address.host) !== 0) return [address.host.toLowerCase()];
  // A name that cannot be looked up fails when it is bound.
  return builtins.dns.lookup(address.host).then(
    (found) => [found.address],
    () => [],
  );
}

function portOf(address: RequestedAddress): number | undefined {
  return address.kind === "unix" ? undefined : address.port;
}
