import type { CompletedCommand, CompletedOption } from "./vocabulary.js";

/** A script for zsh, to be sourced, or to be put into a directory of \`fpath\` as \`_handover\`. */
export function zshScript(commands: readonly CompletedCommand[]): string {
  const described = commands.flatMap(({ names, summary }) =>
    names.map((name) => `    ${quote(`${name}:${summary}`)}`),
  );
  return `#compdef handover
_handover() {
  local -a commands=(
${described.join("\n")}
  )
  if ((CURRENT == 2)); then
    _describe command commands
    return
  fi
  shift words
  ((CURRENT--))
  case $words[1] in
${commands.map(commandCase).join("\n")}
  esac
}
if [[ $funcstack[1] == _handover ]]; then
  _handover "$@"
else
  compdef _handover handover
fi
`;
}

function commandCase({ names, options, words, takesPath }: CompletedCommand): string {
  const path = takesPath ? [quote("*:path:_files")] : [];
  const argument = words.length === 0 ? [] : [quote(`1:argument:(${words.join(" ")})`)];
  const specifications = [...options.map(specification), ...argument, ...path];
  return `    ${names.join(" | ")}) _arguments ${specifications.join(" ")} ;;`;
}

function specification({ long, summary, value }: CompletedOption): string {
  const text = `${long}[${summary.replaceAll(/[[\]\\]/g, "\\$&")}]`;
  if (value === undefined) return quote(text);
  if (value === "path") return quote(`${text}:path:_files`);
  return quote(`${text}:value:${value === "other" ? " " : `(${value.join(" ")})`}`);
}

function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
