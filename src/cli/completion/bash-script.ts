import type { CompletedCommand, CompletedOption } from "./vocabulary.js";

/** A script for bash. */
export function bashScript(commands: readonly CompletedCommand[]): string {
  return `# Completes handover in bash.
_handover() {
  local current=\${COMP_WORDS[COMP_CWORD]} words
  COMPREPLY=()
  if ((COMP_CWORD == 1)); then
    words='${commands.flatMap(({ names }) => names).join(" ")}'
  else
    case "\${COMP_WORDS[1]} \${COMP_WORDS[COMP_CWORD - 1]}" in
${commands.flatMap(valueCases).join("\n")}
      *)
        case "\${COMP_WORDS[1]}" in
${commands.map(commandCase).join("\n")}
        esac
        ;;
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -F _handover handover
`;
}

function valueCases({ names, options }: CompletedCommand): string[] {
  return options.flatMap(({ long, value }) => {
    if (value === undefined) return [];
    const patterns = names.map((name) => `"${name} ${long}"`).join(" | ");
    return [`      ${patterns}) ${valueAction(value)} ;;`];
  });
}

function valueAction(value: NonNullable<CompletedOption["value"]>): string {
  // Without an answer bash itself completes a path, and quotes it where that is necessary.
  if (value === "path") return "compopt -o default 2>/dev/null; return";
  return value === "other" ? "return" : `words='${value.join(" ")}'`;
}

function commandCase({ names, options, words, takesPath }: CompletedCommand): string {
  const all = [...words, ...options.map(({ long }) => long)];
  const paths = takesPath ? "; compopt -o default 2>/dev/null" : "";
  return `          ${names.join(" | ")}) words='${all.join(" ")}'${paths} ;;`;
}
