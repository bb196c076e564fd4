import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** The environment of all tests, and so of the programs that they start. */
export default function setEnvironment(): () => void {
  // Reading extra certificates triples the time that Node takes to start.
  delete process.env["NODE_EXTRA_CA_CERTS"];
  // The services of the tests have their control sockets in a directory of their own, not among those of the machine.
  const directory = mkdtempSync(join(tmpdir(), "handover-runtime-"));
  process.env["XDG_RUNTIME_DIR"] = directory;
  return () => rmSync(directory, { recursive: true, force: true });
}
