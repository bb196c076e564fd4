import { readFileSync, statSync } from "node:fs";
import { HandoverError, type ErrorCode } from "../errors.js";
import { openConnection, type ConnectionEvents, type ControlConnection } from "./connection.js";
import { lineReader, writeLine, type Answer, type Phase, type Request } from "./protocol.js";

/** A connection to the control socket of a process, after its greeting. It serves one request. */
export class ControlClient {
  readonly path: string;
  /** The process that answers. */
  readonly pid: number;
  readonly #lines: Lines;

  /**
   * Connects and waits for the greeting, at most `timeout` ms. Nothing is sent before it, because the socket may belong
   * to another program.
   *
   * @param signal ends the wait
   * @throws {HandoverError} `ERR_CONTROL`
   */
  static async connect(
    path: string,
    timeout = GREETING_TIMEOUT,
    signal?: AbortSignal,
  ): Promise<ControlClient> {
    const lines = new Lines(path);
    let late: NodeJS.Timeout | undefined;
    const limitWait = (): void => {
      late = setTimeout(() => lines.fail(unreachable(path, SILENT)), timeout);
    };
    const abort = (): void => lines.close();
    signal?.addEventListener("abort", abort, { once: true });
    try {
      const ended = `the process at ${path} closed the connection without a greeting`;
      const greeting = await lines.next(ended, limitWait);
      if (greeting["answer"] === "failed") throw failure(greeting);
      const { handover, pid } = greeting;
      if (typeof handover === "string" && typeof pid === "number") {
        return new ControlClient(lines, path, pid);
      }
      throw unreachable(path, "another program answers there");
    } catch (error) {
      lines.close();
      throw error;
    } finally {
      clearTimeout(late);
      signal?.removeEventListener("abort", abort);
    }
  }

  private constructor(lines: Lines, path: string, pid: number) {
    this.#lines = lines;
    this.path = path;
    this.pid = pid;
  }

  /**
   * Sends a request and waits for the answer. There is no timeout: the process has timeouts of its own, and its death
   * closes the connection.
   *
   * @throws {HandoverError} with the code of the answer if that is a failure, `ERR_CONTROL` if there is no answer
   */
  async ask<R extends Request>(request: R, onPhase: (phase: Phase) => void = () => {}): Promise<AnswerTo<R>> {
    const ended = `the process at ${this.path} (pid ${this.pid}) exited without an answer: it crashed or was killed`;
    try {
      writeLine(this.#lines.connection, request);
      for (;;) {
        const line = await this.#lines.next(ended);
        if (typeof line["phase"] === "string") onPhase(line as Phase);
        else if (line["answer"] === "failed") throw failure(line);
        else if (typeof line["answer"] === "string") return line as unknown as AnswerTo<R>;
      }
    } finally {
      this.close();
    }
  }

  close(): void {
    this.#lines.close();
  }

  /**
   * Requires that root or the user of a process has bound the socket: somebody else may have put one at its path.
   *
   * @throws {HandoverError} `ERR_CONTROL`
   */
  requireOwner(pid: number): void {
    const bound = this.#lines.connection.boundBy();
    const owner = effectiveUser(pid) ?? process.geteuid?.();
    if (bound === 0 || (bound !== undefined && bound === owner)) return;
    this.close();
    const message = `the socket ${this.path} belongs to uid ${bound ?? "unknown"}, and process ${pid} to uid ${owner}`;
    throw new HandoverError("ERR_CONTROL", message);
  }

  /** Whether this user has bound the socket. */
  get isOwn(): boolean {
    const bound = this.#lines.connection.boundBy();
    return bound !== undefined && bound === process.geteuid?.();
  }
}

/** Undefined where there is no /proc, or another user's processes are hidden. */
function effectiveUser(pid: number): number | undefined {
  try {
    const [, uid] = /^Uid:\s+\d+\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
    return uid === undefined ? undefined : Number(uid);
  } catch {
    return undefined;
  }
}

/** The answer to a request that succeeds. */
export type AnswerTo<R extends Request> = Extract<Answer, { answer: Answers[R["command"]] }>;

interface Answers {
  status: "status";
  inspect: "inspected";
  stop: "stopped";
  upgrade: "upgraded";
  rehearse: "rehearsed";
  stage: "staged";
  unstage: "unstaged";
  "upgrade-supervisor": "replacing";
  scale: "scaled";
  restart: "restarted";
}

/** ms */
const GREETING_TIMEOUT = 5_000;

/** The lines that the other end sends. */
class Lines implements ConnectionEvents {
  readonly connection: ControlConnection;
  readonly received: (text: string) => void;
  readonly #path: string;
  readonly #received: Record<string, unknown>[] = [];
  #failure: HandoverError | undefined;
  #isOver = false;
  #wake: () => void = () => {};

  constructor(path: string) {
    this.#path = path;
    this.received = lineReader(
      (line) => {
        this.#received.push(line);
        this.#wake();
      },
      () => this.fail(unreachable(path, "another program answers there")),
    );
    this.connection = openConnection(path, this);
  }

  failed(error: NodeJS.ErrnoException): void {
    // A broken connection means the same as one that has ended.
    if (!BROKEN.has(error.code ?? ""))
      this.fail(unreachable(this.#path, whyUnreachable(this.#path, error), error));
  }

  ended(): void {
    this.#isOver = true;
    this.#wake();
  }

  /**
   * @param ended the error message if the connection ends before the line
   * @param beforeWait called once if the line does not come at once
   */
  async next(ended: string, beforeWait = (): void => {}): Promise<Record<string, unknown>> {
    if (this.#isAwaited) this.connection.readAtOnce();
    if (this.#isAwaited) beforeWait();
    while (this.#isAwaited) {
      this.connection.watch();
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
    const line = this.#received.shift();
    if (line !== undefined) return line;
    throw this.#failure ?? new HandoverError("ERR_CONTROL", ended);
  }

  get #isAwaited(): boolean {
    return this.#received.length === 0 && this.#failure === undefined && !this.#isOver;
  }

  close(): void {
    this.connection.close();
    this.ended();
  }

  fail(error: HandoverError): void {
    this.#failure ??= error;
    this.#wake();
  }
}

const BROKEN = new Set(["ECONNRESET", "EPIPE"]);

const SILENT = "the process there does not answer; it may be busy, or not ready yet";

/** For a file that is not a socket Linux gives the code of a socket on which no process listens. */
function whyUnreachable(path: string, { code = "" }: NodeJS.ErrnoException): string | undefined {
  const isOther = code === "ECONNREFUSED" && !path.startsWith("\0") && !isSocket(path);
  return WHY[isOther ? "ENOTSOCK" : code];
}

/** Whether a file is a socket; false if it does not exist. */
export function isSocket(path: string): boolean {
  try {
    return statSync(path).isSocket();
  } catch {
    return false;
  }
}

const WHY: Record<string, string> = {
  // Its queue is full.
  EAGAIN: SILENT,
  ENOENT: "there is no such socket",
  // No socket can have such a path: it is empty, or longer than 107 bytes.
  EINVAL: "there is no such socket",
  ENAMETOOLONG: "there is no such socket",
  ENOTSOCK: "it is not a socket",
  ECONNREFUSED: "the process that owned it has exited",
  EACCES: "permission denied: only the user of the process, or root, may control it",
};

function unreachable(path: string, why: string | undefined, cause?: Error): HandoverError {
  const message = `cannot reach a process at ${path}: ${why ?? cause?.message ?? "unknown"}`;
  return new (why === SILENT ? NoAnswer : HandoverError)("ERR_CONTROL", message, { cause });
}

/** A process has the socket, and has not greeted in time. */
export class NoAnswer extends HandoverError {}

function failure({ code, message }: Record<string, unknown>): HandoverError {
  return new HandoverError(code as ErrorCode, String(message));
}
