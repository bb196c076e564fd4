/** Whether a version of Node is one that a package asks for; of ranges only those with a lower end are understood. */
export function fitsEngines(version: string, range: string): boolean {
  const least = /^>=\s*(\d+(?:\.\d+){0,2})$/.exec(range.trim())?.[1];
  if (least === undefined) return true;
  const [have, need] = [numbers(version), numbers(least)];
  const differing = need.findIndex((n, i) => n !== (have[i] ?? 0));
  return differing < 0 || (have[differing] ?? 0) > need[differing]!;
}

function numbers(version: string): number[] {
  return version.replace(/^v/, "").split(/[.-]/).slice(0, 3).map(Number);
}
