import { execFileSync, spawnSync } from "node:child_process";
import { chownSync, closeSync, mkdirSync, openSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { NOBODY } from "./another-user.js";
import { temporaryDirectory } from "./service.js";

/** Why tests with a small disk are skipped; undefined if they are not. In CI they fail instead. */
export const obstacle = process.env["CI"] === undefined ? findObstacle() : undefined;

function findObstacle(): string | undefined {
  const words = ["--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"];
  return process.getuid!() === 0 && spawnSync("unshare", words).status === 0
    ? undefined
    : "needs root, and mount";
}

/** A disk in memory, which a test can fill up. It is gone when the test ends, after what the test registers later. */
export class SmallDisk {
  /** A directory on it that belongs to the user of the database. */
  readonly directory: string;
  readonly #filler: string;

  /** @param size in KiB */
  constructor(size: number) {
    const root = temporaryDirectory();
    execFileSync("mount", ["-t", "tmpfs", "-o", `size=${size}k,mode=755`, "tmpfs", root]);
    onTestFinished(() => void execFileSync("umount", [root]));
    this.directory = join(root, "data");
    mkdirSync(this.directory);
    chownSync(this.directory, NOBODY, NOBODY);
    this.#filler = join(root, "filler");
  }

  /** Leaves no byte. */
  fill(): void {
    const file = openSync(this.#filler, "w");
    try {
      for (;;) writeSync(file, Buffer.alloc(4_096));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
    } finally {
      closeSync(file);
    }
  }

  /** Makes room again. */
  empty(): void {
    rmSync(this.#filler);
  }
}
