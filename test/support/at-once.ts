import { ControlClient } from "../../dist/control/client.js";
import { untilStopped } from "./staged.js";

type Command = "stage" | "unstage" | "upgrade" | "stop" | "rehearse";

/**
 * Lets a process read these requests, each of a client of its own, in one turn of its event loop; and a SIGHUP after them.
 * Returns the answers; of a refusal the code.
 */
export async function askAtOnce(
  pid: number,
  controlSocket: string,
  ...commands: (Command | "SIGHUP")[]
): Promise<object[]> {
  const asked = commands.filter((one) => one !== "SIGHUP");
  const clients = await Promise.all(asked.map(async () => ControlClient.connect(controlSocket)));
  process.kill(pid, "SIGSTOP");
  await untilStopped(pid);
  const answers = asked.map((command, n) => ask(clients[n]!, command));
  if (commands.includes("SIGHUP")) process.kill(pid, "SIGHUP");
  process.kill(pid, "SIGCONT");
  return Promise.all(answers);
}

async function ask(client: ControlClient, command: Command): Promise<object> {
  return client.ask({ command }).catch(({ code }: { code: string }) => ({ code }));
}
