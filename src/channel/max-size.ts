import { native } from "../platform/native.js";
import { MAX_SIZE } from "./messages.js";

/**
 * The bytes that the kernel takes in one packet of this socket. Where its default buffer is small (net.core.wmem_default),
 * this asks for enough; the kernel may give less (net.core.wmem_max).
 */
export function maxSizeOf(fd: number): number {
  if (native().sendBuffer(fd) < MAX_SIZE + OF_KERNEL) native().setSendBuffer(fd, MAX_SIZE);
  const buffer = native().sendBuffer(fd);
  return buffer < 0 ? MAX_SIZE : Math.min(MAX_SIZE, buffer - OF_KERNEL);
}

/** Bytes of the buffer that no packet may fill. */
const OF_KERNEL = 32;
