import { lstatSync } from "node:fs";
import { builtins } from "../platform/builtins.js";
import { native } from "../platform/native.js";

/** Whether a socket file leads nowhere. Only ECONNREFUSED shows it; a listener with a full queue answers EAGAIN. */
export function isStale(path: string): boolean {
  if (lstatSync(path, { throwIfNoEntry: false })?.isSocket() !== true) return false;
  const fd = native().connectUnix("stream", path);
  if (fd >= 0) native().close(fd);
  return fd === -builtins.os.constants.errno.ECONNREFUSED;
}
