import { createHash } from "node:crypto";

/** The channel of `listen` of a service: a name of at most 63 bytes. */
export function channelOf(service: string): string {
  return `handover_${createHash("sha256").update(service).digest("hex").slice(0, 32)}`;
}
