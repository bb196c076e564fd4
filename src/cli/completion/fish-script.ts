import type { CompletedCommand, CompletedOption } from "./vocabulary.js";

/** A script for fish. */
export function fishScript(commands: readonly CompletedCommand[]): string {
  const lines = commands.flatMap((command) => [...nameLines(command), ...wordLines(command)]);
  return `# Completes handover in fish.
complete --command handover --no-files
${lines.join("\n")}
`;
}

function nameLines({ names, summary }: CompletedCommand): string[] {
  return names.map((name) => line("__fish_use_subcommand", `--arguments ${name}`, summary));
}

function wordLines({ names, options, words, takesPath }: CompletedCommand): string[] {
  const condition = `__fish_seen_subcommand_from ${names.join(" ")}`;
  const lines = options.map(({ long, summary, value }) =>
    line(condition, `--long-option ${long.slice(2)}${valueFlags(value)}`, summary),
  );
  if (words.length > 0) lines.push(line(condition, `--arguments '${words.join(" ")}'`));
  if (takesPath) lines.push(line(condition, "--force-files"));
  return lines;
}

function valueFlags(value: CompletedOption["value"]): string {
  if (value === undefined) return "";
  if (value === "path") return " --require-parameter --force-files";
  return value === "other" ? " --exclusive" : ` --exclusive --arguments '${value.join(" ")}'`;
}

function line(condition: string, rest: string, summary?: string): string {
  const description = summary === undefined ? "" : ` --description ${quote(summary)}`;
  return `complete --command handover --condition '${condition}' ${rest}${description}`;
}

function quote(text: string): string {
  return `'${text.replaceAll(/['\\]/g, "\\$&")}'`;
}
