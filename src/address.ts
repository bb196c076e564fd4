import { isIP } from "node:net";
import { resolve } from "node:path";

/** What was asked for, before a name was looked up and a port chosen. The host `*` is every address. */
export type RequestedAddress =
  { kind: "tcp" | "udp"; host: string; port: number; ipv6Only: boolean } | { kind: "unix"; path: string };

/** A file, and how to tell that it is still the same. The numbers have 64 bits, which JSON's do not. */
export interface FileIdentity {
  path: string;
  dev: string;
  ino: string;
}

/**
 * The name under which a listener without one of its own is handed on: what was asked for. Ports asked for as
 * 0 are counted, so that the n-th one of a generation inherits the n-th of its predecessor.
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
  const host = isIP(address.host) === 6 ? `[${address.host}]` : address.host;
  return `${address.kind}:${host}:${address.port}`;
}

/** Whether what was handed on under a name is what is asked for now. A port of 0 fits every port. */
export function fits(asked: RequestedAddress, handedOn: RequestedAddress | undefined): boolean {
  if (handedOn === undefined) return false;
  if (asked.kind === "unix" || handedOn.kind === "unix") {
    return asked.kind === "unix" && handedOn.kind === "unix" && asked.path === handedOn.path;
  }
  return (
    asked.kind === handedOn.kind &&
    asked.host === handedOn.host &&
    asked.ipv6Only === handedOn.ipv6Only &&
    (asked.port === 0 || asked.port === handedOn.port)
  );
}

/** A path as every generation knows it, whatever its working directory; an abstract name as it is. */
export function absolutePath(path: string, directory: string): string {
  return path.startsWith("\0") ? path : resolve(directory, path);
}
