// Adds V8's compiled code of the scripts of the package to dist/bundle/, for the version of Node that runs this script: of the
// functions that a start, an upgrade and `handover status` call. The build runs it. A package that is to start as fast with other versions needs a
// run with each of them.
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

// Of the control socket: nobody who looks for a service of this user finds the program.
const directory = mkdtempSync(join(tmpdir(), "handover-"));
const program = fileURLToPath(new URL("compiled-program.js", import.meta.url));
try {
  const written = execFileSync(process.execPath, [program], {
    // The program of a start is none that npm should wait for, and says so.
    env: { ...process.env, NODE_NO_WARNINGS: "1", XDG_RUNTIME_DIR: directory },
    // Its successors have this pipe, too: the call returns when the last of them has exited.
    stdio: ["ignore", "pipe", "inherit"],
    timeout: 60_000,
  });
  if (written.length === 0) throw new Error("no process of the program has written what V8 has compiled");
} finally {
  rmSync(directory, { recursive: true });
}
