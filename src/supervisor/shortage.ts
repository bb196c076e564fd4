import { systemCause } from "../platform/native.js";

/** Whether the system has no descriptor, process or memory for this process. */
export function isShortage(error: unknown): boolean {
  const { code = "" } = systemCause(error) as NodeJS.ErrnoException;
  return ["EAGAIN", "EMFILE", "ENFILE", "ENOMEM"].includes(code);
}
