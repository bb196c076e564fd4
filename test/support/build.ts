import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";

/** Programs under test load the built package: build it, so that no test runs on yesterday's code. */
export default function build(): void {
  if (!existsSync("build/Release/handover.node")) run("build:native");
  run("build:ts");
}

function run(script: string): void {
  execFileSync("npm", ["run", "--silent", script], { stdio: "inherit" });
}
