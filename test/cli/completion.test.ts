import { execFile } from "node:child_process";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { delimiter, join, resolve } from "node:path";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";
import { whyMissing } from "../support/sandbox.js";
import { temporaryDirectory } from "../support/service.js";

const run = promisify(execFile);

/** What is typed before the Tab key, and what the line is then. */
const cases = [
  ["handover stat", "handover status "],
  ["handover rel", "handover reload "],
  ["handover upgrade --dr", "handover upgrade --dry-run "],
  ["handover reload --ti", "handover reload --timeout "],
  ["handover unit --type notify-r", "handover unit --type notify-reload "],
  ["handover status --pid-file bla", "handover status --pid-file black.pid "],
  ["handover run --sti", "handover run --sticky "],
  ["handover run bla", "handover run black.pid "],
  ["handover help comp", "handover help completion "],
  ["handover completion z", "handover completion zsh "],
] as const;

describe.skipIf(whyMissing("python3"))(`bash${skipped("python3")}`, () => {
  test("bash completes commands, options, their values and paths", async () => {
    const [init, ...shown] = await type(
      ["bash", "--norc", "--noprofile", "-i"],
      "PS1='> '; bind 'set enable-bracketed-paste off'; source <(handover completion bash); echo rea''dy\n",
      cases,
    );
    expect(init).not.toMatch(/error|not found/);
    expect(shown).toHaveLength(cases.length);
  });
});

describe.skipIf(whyMissing("python3", "zsh"))(`zsh${skipped("python3", "zsh")}`, () => {
  test("zsh completes commands, options, their values and paths", async () => {
    const [init, ...shown] = await type(
      ["zsh", "--no-rcs", "-i"],
      "PS1='> '; unsetopt zle_bracketed_paste; autoload -U compinit; compinit -u -D; source <(handover completion zsh); echo rea''dy\n",
      cases,
    );
    expect(init).not.toMatch(/error|not found/);
    expect(shown).toHaveLength(cases.length);
  });
});

describe.skipIf(whyMissing("fish"))(`fish${skipped("fish")}`, () => {
  test.each(cases)("fish completes %j to %j", async (typed, completed) => {
    const { env, cwd } = workplace();
    const script = `handover completion fish | source; complete --do-complete ${JSON.stringify(typed)}`;
    const { stdout, stderr } = await run("fish", ["--no-config", "--command", script], { env, cwd });
    const words = stdout.split("\n").map((line) => line.split("\t")[0]);
    expect({ words, stderr }).toEqual({ words: [completed.trim().split(" ").at(-1), ""], stderr: "" });
  });
});

/** For a title: why the test is skipped, if it is. */
function skipped(...programs: string[]): string {
  const why = whyMissing(...programs);
  return why === undefined ? "" : ` (skipped: ${why})`;
}

/** Types each text and a Tab into an interactive shell; fails if it does not show the line that is meant. */
async function type(
  shell: string[],
  init: string,
  lines: readonly (readonly [string, string])[],
): Promise<string[]> {
  const { env, cwd } = workplace();
  const steps = lines.map(([typed, completed]) => [`${typed}\t`, escape(completed)]);
  // Ctrl-U empties the line.
  const all = [[init, "ready"], ...steps.map(([typed, shown]) => [`\u0015${typed}`, shown])];
  const fixture = resolve("test/fixtures/types-in-shell.py");
  const { stdout } = await run("python3", [fixture, JSON.stringify(all), ...shell], { env, cwd });
  return JSON.parse(stdout) as string[];
}

function escape(text: string): string {
  return text.replaceAll(/[-.]/g, "\\$&");
}

/** A directory with a file to complete, and `handover` on PATH. */
function workplace(): { env: NodeJS.ProcessEnv; cwd: string } {
  const cwd = temporaryDirectory();
  writeFileSync(join(cwd, "black.pid"), "");
  mkdirSync(join(cwd, "bin"));
  symlinkSync(resolve("bin/handover.js"), join(cwd, "bin", "handover"));
  const PATH = [join(cwd, "bin"), process.env["PATH"]].join(delimiter);
  return { env: { ...process.env, PATH, HOME: cwd, TERM: "dumb", LC_ALL: "C.UTF-8" }, cwd };
}
