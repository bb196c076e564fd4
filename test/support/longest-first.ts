import { BaseSequencer, type TestSpecification } from "vitest/node";

/** The files that take half a minute and more. */
const LONGEST = [
  "auto/auto",
  "bench",
  "cli/run-config",
  "connections/drain",
  "connections/http1",
  "connections/unregistered-web-sockets",
  "faults/hang",
  "faults/supervised",
  "package",
  "state/slots",
  "state/units",
  "supervisor/faults",
  "supervisor/health",
  "supervisor/killed",
  "supervisor/rolling",
  "supervisor/scale",
  "supervisor/upgrade",
  "systemd/reload",
  "websocket/websocket",
];

/** Begins with the files that take longest: otherwise the last of them runs alone, and all other workers are idle. */
export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    // oxlint-disable-next-line unicorn/no-array-sort -- it is no array
    const sorted = await super.sort(files);
    const longest = sorted.filter(isLong);
    return [...longest, ...sorted.filter((file) => !longest.includes(file))];
  }
}

function isLong({ moduleId }: TestSpecification): boolean {
  return LONGEST.some((name) => moduleId.endsWith(`/test/${name}.test.ts`));
}
