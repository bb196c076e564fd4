import { spawn, type ChildProcess } from "node:child_process";
import { createHash, X509Certificate } from "node:crypto";
import { once } from "node:events";
import type { Readable, Writable } from "node:stream";
import { onTestFinished } from "vitest";
import { temporaryDirectory } from "./service.js";

interface Answer {
  id?: number;
  result?: unknown;
  error?: { message: string };
}

interface Evaluated {
  result: { value: unknown };
  exceptionDetails?: { exception?: { description?: string } };
}

/** A page in Debian's Chromium without a window, by the protocol of its developer tools over two pipes. */
export class Browser {
  readonly #process: ChildProcess;
  readonly #asked = new Map<number, { resolve: (result: unknown) => void; reject: (error: Error) => void }>();
  #unread = "";
  #last = 0;
  /** Of the page. */
  #session: string | undefined;

  /** @param cert of the server: no other one is trusted, and no other address than the loopback is reached */
  static async open(cert: string): Promise<Browser> {
    const key = new X509Certificate(cert).publicKey.export({ type: "spki", format: "der" });
    const hash = createHash("sha256").update(key).digest("base64");
    const profile = temporaryDirectory();
    const words = [
      "--headless",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-dev-shm-usage",
      "--disable-background-networking",
      "--disable-component-update",
      "--no-first-run",
      "--remote-debugging-pipe",
      "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
      `--ignore-certificate-errors-spki-list=${hash}`,
      `--user-data-dir=${profile}`,
    ];
    const stdio = ["ignore", "ignore", "ignore", "pipe", "pipe"] as const;
    // A group of its own: it has many processes.
    const child = spawn(CHROMIUM, words, {
      stdio: [...stdio],
      detached: true,
      env: { ...process.env, HOME: profile },
    });
    onTestFinished(async () => {
      const closed = once(child, "close");
      process.kill(-child.pid!, "SIGKILL");
      await closed;
    });
    const browser = new Browser(child);
    const { targetId } = await browser.#ask<{ targetId: string }>("Target.createTarget", {
      url: "about:blank",
    });
    const attached = { targetId, flatten: true };
    browser.#session = (
      await browser.#ask<{ sessionId: string }>("Target.attachToTarget", attached)
    ).sessionId;
    return browser;
  }

  private constructor(child: ChildProcess) {
    this.#process = child;
    const answers = child.stdio[4] as Readable;
    answers.setEncoding("utf8").on("data", (text: string) => this.#read(text));
    child.once("exit", () => {
      for (const { reject } of this.#asked.values()) reject(new Error("the browser has ended"));
    });
  }

  /** Resolves when the page is loaded. */
  async goTo(url: string): Promise<void> {
    const { errorText } = await this.#ask<{ errorText?: string }>("Page.navigate", { url });
    if (errorText !== undefined) throw new Error(`the browser cannot open ${url}: ${errorText}`);
    await this.evaluate(
      "new Promise((loaded) => document.readyState === 'complete' ? loaded() : addEventListener('load', () => loaded()))",
    );
  }

  /** The value of an expression in the page, or of its promise. */
  async evaluate(expression: string): Promise<unknown> {
    const options = { expression, awaitPromise: true, returnByValue: true };
    const { result, exceptionDetails } = await this.#ask<Evaluated>("Runtime.evaluate", options);
    if (exceptionDetails !== undefined) throw new Error(exceptionDetails.exception?.description);
    return result.value;
  }

  /** What the page looks like: a PNG. */
  async screenshot(): Promise<Buffer> {
    return Buffer.from((await this.#ask<{ data: string }>("Page.captureScreenshot", {})).data, "base64");
  }

  async #ask<T>(method: string, params: object): Promise<T> {
    const id = ++this.#last;
    const answer = new Promise((resolve, reject) => this.#asked.set(id, { resolve, reject }));
    const { stdio } = this.#process;
    (stdio[3] as Writable).write(`${JSON.stringify({ id, method, params, sessionId: this.#session })}\0`);
    return answer as Promise<T>;
  }

  #read(text: string): void {
    const messages = (this.#unread + text).split("\0");
    this.#unread = messages.pop()!;
    for (const message of messages) {
      const { id, result, error } = JSON.parse(message) as Answer;
      if (id === undefined) continue;
      const { resolve, reject } = this.#asked.get(id)!;
      this.#asked.delete(id);
      if (error === undefined) resolve(result);
      else reject(new Error(error.message));
    }
  }
}

export const CHROMIUM = "chromium";
