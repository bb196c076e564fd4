import { Socket } from "node:net";
import { check, native } from "../platform/native.js";
import { deferred } from "../util/deferred.js";
import type { Clock } from "../util/clock.js";
import type { HealthPath } from "./health-option.js";
import type { WorkerProcess } from "./worker-process.js";

/**
 * Asks one worker for a path, over one end of a pair of sockets: a connection to the port would reach any worker.
 * Resolves with what is wrong; undefined if it answers with a status from 200 to 399 within `timeout` ms.
 */
export async function askForPath(
  worker: WorkerProcess,
  { name, path }: HealthPath,
  timeout: number,
  clock: Clock,
): Promise<string | undefined> {
  const [own, other] = check(native().streamPair(), "make", "a pair of sockets");
  const socket = new Socket({ fd: own, readable: true, writable: true });
  const status = deferred<string>();
  const cancel = clock.after(timeout, () => status.resolve(`did not answer within ${timeout} ms`));
  try {
    let text = "";
    socket.setEncoding("latin1").on("data", (chunk: string) => {
      text += chunk;
      const answer = finalStatus(text);
      if (answer !== undefined) status.resolve(answer);
      else if (text.length > LONGEST) status.resolve("answered with no status of HTTP");
    });
    socket.on("error", () => socket.destroy());
    socket.once("close", () => status.resolve("closed the connection without an answer"));
    try {
      worker.probe(name, other);
    } finally {
      native().close(other);
    }
    socket.write(
      `GET ${path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: handover\r\nConnection: close\r\n\r\n`,
    );
    const answer = await status.promise;
    if (/^answered [23]/.test(answer)) return undefined;
    return `GET ${name === undefined ? "" : `${name}:`}${path} ${answer}`;
  } finally {
    cancel();
    socket.destroy();
  }
}

/** The first status that is no interim one, such as 103; undefined if it has not come yet. */
function finalStatus(text: string): string | undefined {
  const [, status] = /^(?:HTTP\/1\.[01] 1\d\d[^]*?\r\n\r\n)*HTTP\/1\.[01] ([2-9]\d\d.*)\r\n/.exec(text) ?? [];
  return status === undefined ? undefined : `answered ${status}`;
}

/** Characters of the interim answers and of the status. */
const LONGEST = 16_384;
