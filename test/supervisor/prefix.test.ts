import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { describe, expect, onTestFinished, test } from "vitest";
import { LinePrefixer } from "../../dist/supervisor/line-prefixer.js";
import { fixturePath } from "../support/faults.js";
import { Supervised } from "../support/supervised.js";

describe("--prefix", () => {
  test("begins each line of a worker with its index, on stdout and stderr apart", async () => {
    const service = new PrefixedService(2);
    await service.until("out", /^\[0\] .*"accepting"/m);
    await service.until("out", /^\[1\] .*"accepting"/m);
    await service.until("err", /^\[0\] first stderr\n\[0\] second stderr\n/m);
    await service.until("err", /^\[1\] first stderr\n\[1\] second stderr\n/m);
    expect(
      service.out
        .trimEnd()
        .split("\n")
        .filter((line) => !/^(\[[01]\] |\{)/.test(line)),
    ).toEqual([]);
    // The last line of a worker that exits has no end.
    expect(await service.stop()).toEqual([0, null]);
    expect(service.out).toMatch(/^\[0\] the end of 0$/m);
    expect(service.out).toMatch(/^\[1\] the end of 1$/m);
    // The supervisor's own lines have none.
    expect(service.out).toMatch(/^\{.*"supervisor ended"/m);
  });

  test("what is not read makes the workers wait, and the supervisor neither grows nor stops", async () => {
    const service = new PrefixedService(1, { flood: true });
    await service.until("out", /flood/);
    service.child.stdout.pause();
    const before = memoryOf(service.child.pid!);
    // A supervisor that was blocked, or took everything, would not pass on stderr, or grow by the second.
    for (let n = 1; n <= 20; n++) await service.until("err", new RegExp(`^\\[0\\] second ${n}$`, "m"));
    expect(memoryOf(service.child.pid!) - before).toBeLessThan(30 * 2 ** 20);
    service.child.stdout.resume();
    expect(await service.stop()).toEqual([0, null]);
  });

  test("without it the output of workers is not touched", async () => {
    const service = await Supervised.start("obeys-work.js", { workers: 1 });
    const [pid] = await service.pids();
    await service.tell(pid!, "print", '{"event":"untouched"}\n');
    expect(await service.until("untouched")).toEqual({ event: "untouched" });
    await service.stop();
  });
});

describe("the lines of a stream", () => {
  test.each([
    ["whole lines", ["a\nb\n"], "> a\n> b\n"],
    ["a line in pieces", ["a", "b", "\nc\n"], "> ab\n> c\n"],
    ["empty lines", ["\n\n"], "> \n> \n"],
    ["a last line without an end", ["a\nb"], "> a\n> b\n"],
    ["nothing", [""], ""],
    ["a character in pieces", [Buffer.of(0xc3), Buffer.of(0xa4, 0x0a)], "> ä\n"],
  ])("get a prefix each: %s", (_, chunks, expected) => {
    expect(prefixed(...chunks)).toBe(expected);
  });

  test("a line that is too long is divided between two characters", () => {
    const line = "a".repeat(65_535) + "äb";
    expect(prefixed(line.slice(0, 10), `${line.slice(10)}\nc\n`)).toBe(
      `> ${"a".repeat(65_535)}\n> äb\n> c\n`,
    );
    expect(
      prefixed("x".repeat(200_000))
        .split("\n")
        .map(({ length }) => length),
    ).toEqual([65_538, 65_538, 65_538, 3_394, 0]);
  });
});

/** The chunks of a stream as they are passed on. */
function prefixed(...chunks: (string | Buffer)[]): string {
  const lines = new LinePrefixer("> ");
  const parts = chunks.map((chunk) => lines.add(Buffer.from(chunk)));
  return Buffer.concat([...parts, lines.end()]).toString();
}

/** Resident bytes. */
function memoryOf(pid: number): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]) * 1_024;
}

/** A supervisor whose output the test reads itself. */
class PrefixedService {
  readonly child;
  out = "";
  err = "";

  constructor(workers: number, settings: object = {}) {
    const options = {
      program: "supervisor/prints.js",
      workers,
      prefix: true,
      controlSocket: false,
      settings,
    };
    const words = [fixturePath("supervisor/supervises.js"), JSON.stringify(options)];
    this.child = spawn(process.execPath, words, { stdio: ["ignore", "pipe", "pipe"], detached: true });
    this.child.stdout
      .setEncoding("utf8")
      .on("data", (chunk: string) => (this.out = (this.out + chunk).slice(-1e6)));
    this.child.stderr.setEncoding("utf8").on("data", (chunk: string) => (this.err += chunk));
    onTestFinished(() => {
      try {
        process.kill(-this.child.pid!, "SIGKILL");
      } catch {
        // It has ended.
      }
    });
  }

  /** Resolves when a stream has printed this, and rejects if it ends without. */
  async until(stream: "out" | "err", pattern: RegExp): Promise<void> {
    const { stdout, stderr } = this.child;
    const source = stream === "out" ? stdout : stderr;
    while (!pattern.test(this[stream])) {
      if (source.readableEnded) throw new Error(`there is no ${pattern} in ${this[stream]}`);
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          source.off("data", wake).off("end", wake);
          resolve();
        };
        source.on("data", wake).on("end", wake);
      });
    }
  }

  /** Resolves with the exit code and the signal. */
  async stop(): Promise<unknown[]> {
    const closed = once(this.child, "close");
    this.child.kill("SIGTERM");
    return closed;
  }
}
