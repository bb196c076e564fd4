import { Argument, Command } from "commander";
import { bashScript } from "./bash-script.js";
import { fishScript } from "./fish-script.js";
import { vocabularyOf } from "./vocabulary.js";
import { zshScript } from "./zsh-script.js";

/**
 * `handover completion`
 *
 * @param program the whole program, whose commands the scripts complete
 */
export function completionCommand(program: () => Promise<Command>): Command {
  return new Command("completion")
    .summary("print a script that completes commands in a shell")
    .description("Prints a script with which a shell completes the commands and options of handover.")
    .addArgument(new Argument("<shell>", "the shell").choices(Object.keys(SCRIPTS)))
    .addHelpText("after", EXAMPLES)
    .action(async (shell: keyof typeof SCRIPTS) => {
      process.stdout.write(SCRIPTS[shell](vocabularyOf(await program())));
    });
}

const SCRIPTS = { bash: bashScript, zsh: zshScript, fish: fishScript };

const EXAMPLES = `
Examples, each for the file that the shell reads when it starts:
  source <(handover completion bash)         in ~/.bashrc
  source <(handover completion zsh)          in ~/.zshrc, after compinit
  handover completion fish | source          in ~/.config/fish/config.fish

Exit codes: 0 printed, 2 wrong usage.`;
