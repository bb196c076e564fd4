import { readFile } from "node:fs/promises";
import type { IncomingMessage } from "node:http";
import { Agent, request } from "node:https";
import { join } from "node:path";
import { codeOf, HandoverError, reasonOf } from "../errors.js";

/** An answer of the API server. */
interface ApiAnswer<T> {
  readonly status: number;
  readonly body: T;
}

/** The API server of the cluster, as a pod reaches it with its service account. */
export class ApiServer {
  readonly #directory: string;
  readonly #timeout: number;
  readonly #agent = new Agent({ keepAlive: true });

  /**
   * @param directory of the service account's files
   * @param timeout of one answer, in ms
   */
  constructor(directory: string, timeout: number) {
    this.#directory = directory;
    this.#timeout = timeout;
  }

  /** The namespace of the pod. */
  async namespace(): Promise<string> {
    return this.#read("namespace");
  }

  /**
   * Asks. A status that is in `expected` is returned, too.
   *
   * @throws {HandoverError} `ERR_EXCHANGE` without an answer, and for every other status
   */
  async ask<T>(
    method: "GET" | "POST" | "PUT",
    path: string,
    body?: object,
    expected: readonly number[] = [],
  ): Promise<ApiAnswer<T>> {
    // One signal for all of it: a server that sends its answer by and by must not hold the renewal of a lease.
    const signal = AbortSignal.timeout(this.#timeout);
    let status: number;
    let answer: T;
    try {
      const response = await this.#send(method, path, body, signal);
      let text = "";
      response.setEncoding("utf8");
      for await (const chunk of response) text += chunk as string;
      status = response.statusCode!;
      answer = JSON.parse(text) as T;
    } catch (error) {
      if (signal.aborted) this.dropIdle();
      if (error instanceof HandoverError) throw error;
      throw signal.aborted ? away(`no answer in ${this.#timeout} ms`) : away(reasonOf(error), error);
    }
    if (status < 300 || expected.includes(status)) return { status, body: answer };
    throw away((answer as { message?: string }).message ?? `it answered with status ${status}`);
  }

  /**
   * Follows the changes of a list, until it ends by itself or is ended.
   *
   * @param onEnd called once, however it ends
   * @returns ends it
   */
  watch(path: string, onChange: (change: unknown) => void, onEnd: () => void): () => void {
    const ending = new AbortController();
    const { signal } = ending;
    const follow = async (): Promise<void> => {
      const response = await this.#send("GET", path, undefined, signal);
      // A connection that has died without a word would keep the watch for ever.
      response.socket.setTimeout(LONGEST_WATCH, () => response.destroy());
      if (response.statusCode === 200) await readLines(response, onChange);
      else response.destroy();
    };
    void follow()
      .catch(() => {})
      .finally(onEnd);
    return () => ending.abort();
  }

  /** A connection that waits for a question may be half open, if another one is. */
  dropIdle(): void {
    for (const socket of Object.values(this.#agent.freeSockets).flat()) socket?.destroy();
  }

  close(): void {
    this.#agent.destroy();
  }

  /** The files are read for each request: the cluster replaces the token before it expires. */
  async #send(
    method: string,
    path: string,
    body: object | undefined,
    signal: AbortSignal,
  ): Promise<IncomingMessage> {
    const { KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port = "443" } = process.env;
    if (host === undefined)
      throw new Error("KUBERNETES_SERVICE_HOST is not set: this process is not in a pod");
    const [token, ca] = await Promise.all([this.#read("token"), this.#read("ca.crt")]);
    const text = body === undefined ? undefined : JSON.stringify(body);
    return new Promise((resolve, reject) => {
      const asking = request({
        host,
        port,
        method,
        path,
        ca,
        agent: this.#agent,
        signal,
        headers: {
          accept: "application/json",
          authorization: `Bearer ${token}`,
          ...(text === undefined
            ? {}
            : { "content-type": "application/json", "content-length": Buffer.byteLength(text) }),
        },
      });
      asking.on("response", resolve);
      asking.on("error", reject);
      asking.end(text);
    });
  }

  /** @throws {HandoverError} `ERR_EXCHANGE` */
  async #read(name: string): Promise<string> {
    try {
      return (await readFile(join(this.#directory, name), "utf8")).trim();
    } catch (error) {
      const hint = codeOf(error, "ERR_INTERNAL") === "ENOENT" ? "; is this process in a pod?" : "";
      throw away(`its service account cannot be read: ${reasonOf(error)}${hint}`, error);
    }
  }
}

/** Calls `onLine` with the value of each line of JSON. Resolves at the end of the stream. */
async function readLines(stream: IncomingMessage, onLine: (value: unknown) => void): Promise<void> {
  let rest = "";
  stream.setEncoding("utf8");
  for await (const chunk of stream) {
    const lines = (rest + (chunk as string)).split("\n");
    rest = lines.pop()!;
    for (const line of lines) if (line !== "") onLine(JSON.parse(line));
  }
}

function away(reason: string, cause?: unknown): HandoverError {
  return new HandoverError("ERR_EXCHANGE", `Kubernetes cannot be asked: ${reason}`, { cause });
}

/** ms without a byte, after which a watch ends. The server ends one itself before. */
const LONGEST_WATCH = 330_000;
