import type { Readable } from "node:stream";

/** Waits until a program has written this. What it writes later is read, too: else it would wait for that in the end. */
export async function untilSaid(output: Readable, what: RegExp): Promise<void> {
  let text: string | undefined = "";
  await new Promise<void>((resolve, reject) => {
    output.setEncoding("utf8").on("data", (chunk: string) => {
      if (text === undefined) return;
      text += chunk;
      if (!what.test(text)) return;
      text = undefined;
      resolve();
    });
    output.once("end", () => reject(new Error(`it has ended: ${text}`)));
  });
}
