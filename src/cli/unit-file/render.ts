/** Lines of a unit, and the comment that explains them. */
export type Entry = readonly [why: string, ...lines: string[]] | undefined | false;

/** A unit file: a comment at the top, and sections of lines, each with its own comment. */
export function renderUnit(title: readonly string[], sections: Record<string, readonly Entry[]>): string {
  const parts = Object.entries(sections).map(([name, entries]) => {
    const lines = entries.flatMap((entry) => (entry ? [render(entry)] : []));
    return [`[${name}]`, ...lines].join("\n");
  });
  return `${[title.map((line) => `# ${line}`).join("\n"), ...parts].join("\n\n")}\n`;
}

function render([why, ...lines]: readonly [string, ...string[]]): string {
  return [...why.split("\n").map((line) => `# ${line}`), ...lines].join("\n");
}
