import { isIP } from "node:net";
import { resolve } from "node:path";

/** An address as the program requested it, before its name was looked up or its port chosen. The host `*`: every address. */
export type RequestedAddress =
  { kind: "tcp" | "udp"; host: string; port: number; ipv6Only: boolean } | { kind: "unix"; path: string };

/** A path and the file that was there. The numbers have 64 bits, for which JSON needs strings. */
export interface FileIdentity {
  path: string;
  dev: string;
  ino: string;
}

/**
 * The name of a listener to which the program gave none: its requested address. Requests for port 0 are numbered, so that
 * the n-th one of a generation inherits the n-th of its predecessor.
 */
export function nameOf(address: RequestedAddress, isTaken: (name: string) => boolean): string {
  const name = describeAddress(address);
  if (address.kind === "unix" || address.port !== 0) return name;
  for (let n = 1; ; n++) {
    if (!isTaken(`${name}#${n}`)) return `${name}#${n}`;
  }
}

/** An address as people write it: `tcp:127.0.0.1:8080`, `tcp:*:80`, `unix:/run/app.sock`, `unix:@abstract`. */
export function describeAddress(address: RequestedAddress): string {
  if (address.kind === "unix") return `unix:${address.path.replace(/^\0/, "@")}`;
  const host = address.host.includes(":") && isIP(address.host) === 6 ? `[${address.host}]` : address.host;
  return `${address.kind}:${host}:${address.port}`;
}

/** Whether an inherited descriptor is for the address that is requested now. A requested port of 0 fits every port. */
export function fits(requested: RequestedAddress, inherited: RequestedAddress | undefined): boolean {
  if (inherited === undefined) return false;
  if (requested.kind === "unix" || inherited.kind === "unix") {
    return requested.kind === "unix" && inherited.kind === "unix" && requested.path === inherited.path;
  }
  return (
    requested.kind === inherited.kind &&
    requested.host === inherited.host &&
    requested.ipv6Only === inherited.ipv6Only &&
    (requested.port === 0 || requested.port === inherited.port)
  );
}

/** A path that means the same in every generation, whatever its working directory; an abstract name as it is. */
export function absolutePath(path: string, directory: string): string {
  return path.startsWith("\0") ? path : resolve(directory, path);
}
