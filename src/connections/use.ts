import { constants } from "node:os";
import { native } from "../platform/native.js";

const { ENOSYS, ENOTSUP } = constants.errno;

/**
 * Remembers how much has been read from a connection and written to it. The returned function says whether that is
 * still so: false also if the system does not say. True for a connection that the system does not count: one of a Unix
 * socket, and every one on macOS.
 */
export function rememberUse(fd: number): () => boolean {
  const before = native().connectionCounters(fd);
  if (before === -ENOTSUP || before === -ENOSYS) return () => true;
  return () => {
    const now = native().connectionCounters(fd);
    if (typeof before === "number" || typeof now === "number") return false;
    return (
      now.acked + now.unsent === before.acked + before.unsent &&
      now.received - now.unread === before.received - before.unread
    );
  };
}
