import type { AddressInfo } from "node:net";
import { check, native } from "../platform/native.js";
import type { InventoryItem } from "./inventory.js";

/** The address to which a descriptor is bound, for people. */
export function boundTo(fd: number): { address?: string } {
  const socket = native().describe(fd);
  if (typeof socket === "number" || socket.address === "") return {};
  const { family, address, port } = socket;
  if (family === "unix") return { address: address.replace(/^\0/, "@") };
  return { address: `${family === "inet6" ? `[${address}]` : address}:${port}` };
}

/** The result of `server.address()`, which Node does not know for a Unix socket that it has not bound itself. */
export function addressOf(item: InventoryItem): AddressInfo | string {
  const socket = check(native().describe(item.fd), "describe the descriptor of", item.name);
  if (typeof socket === "number" || socket.family === "unix") {
    if (item.address?.kind === "unix") return item.address.path;
    return typeof socket === "number" ? "" : socket.address;
  }
  return { address: socket.address, family: socket.family === "inet6" ? "IPv6" : "IPv4", port: socket.port };
}
