import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** The services of the tests have their control sockets in a directory of their own, not among those of the machine. */
export default function setRuntimeDirectory(): () => void {
  const directory = mkdtempSync(join(tmpdir(), "handover-runtime-"));
  process.env["XDG_RUNTIME_DIR"] = directory;
  return () => rmSync(directory, { recursive: true, force: true });
}
