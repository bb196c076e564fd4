import { connect, type Socket } from "node:net";
import { HandoverError, type ErrorCode } from "../errors.js";
import { readLines, writeLine, type Answer, type Phase, type Request } from "./protocol.js";

/** A connection to a process that has greeted on its control socket. It is good for one question. */
export class ControlClient {
  readonly path: string;
  /** Of the process that answers here. */
  readonly pid: number;
  readonly #socket: Socket;
  readonly #lines: Lines;

  /**
   * Connects and waits for the greeting, at most `patience` ms: until then nothing is sent, so that a socket
   * which is somebody else's gets no words of ours.
   *
   * @param signal ends the wait
   * @throws {HandoverError} `ERR_CONTROL`
   */
  static async connect(path: string, patience = PATIENCE, signal?: AbortSignal): Promise<ControlClient> {
    const socket = connect({ path });
    const lines = new Lines(socket, path);
    const late = setTimeout(() => lines.fail(unreachable(path, SILENT)), patience);
    const abort = (): unknown => socket.destroy();
    signal?.addEventListener("abort", abort, { once: true });
    try {
      const greeting = await lines.next(`the process at ${path} closed the connection without a greeting`);
      if (greeting["answer"] === "failed") throw failure(greeting);
      const { handover, pid } = greeting;
      if (typeof handover === "string" && typeof pid === "number") {
        return new ControlClient(socket, lines, path, pid);
      }
      throw unreachable(path, "what answers there is not handover");
    } catch (error) {
      socket.destroy();
      throw error;
    } finally {
      clearTimeout(late);
      signal?.removeEventListener("abort", abort);
    }
  }

  private constructor(socket: Socket, lines: Lines, path: string, pid: number) {
    this.#socket = socket;
    this.#lines = lines;
    this.path = path;
    this.pid = pid;
  }

  /**
   * Asks, and waits for the answer as long as the process lives: it has limits of its own, and ends the
   * connection when it dies.
   *
   * @throws {HandoverError} with the answer's own code where it is a failure, `ERR_CONTROL` where there is none
   */
  async ask<R extends Request>(request: R, onPhase: (phase: Phase) => void = () => {}): Promise<AnswerTo<R>> {
    const ended = `the process at ${this.path} (pid ${this.pid}) ended without an answer: it has died, or was killed`;
    try {
      writeLine(this.#socket, request);
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
    this.#socket.destroy();
  }
}

/** The answer to a request, if it is no failure. */
type AnswerTo<R extends Request> = Extract<Answer, { answer: Answers[R["command"]] }>;

interface Answers {
  status: "status";
  stop: "stopped";
  upgrade: "upgraded";
  rehearse: "rehearsed";
}

/** ms */
const PATIENCE = 5_000;

/** What the other end says, line by line. */
class Lines {
  readonly #heard: Record<string, unknown>[] = [];
  #failure: HandoverError | undefined;
  #isOver = false;
  #wake: () => void = () => {};

  constructor(socket: Socket, path: string) {
    readLines(
      socket,
      (line) => {
        this.#heard.push(line);
        this.#wake();
      },
      () => this.fail(unreachable(path, "what answers there is not handover")),
    );
    socket.once("error", (error: NodeJS.ErrnoException) => {
      // A connection that was there and breaks is the same as one that ends.
      if (!BROKEN.has(error.code ?? "")) this.fail(unreachable(path, WHY[error.code ?? ""], error));
    });
    socket.once("close", () => {
      this.#isOver = true;
      this.#wake();
    });
  }

  /** @param ended why there is no line if the connection has ended */
  async next(ended: string): Promise<Record<string, unknown>> {
    while (this.#heard.length === 0) {
      if (this.#failure !== undefined) throw this.#failure;
      if (this.#isOver) throw new HandoverError("ERR_CONTROL", ended);
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
    return this.#heard.shift()!;
  }

  fail(error: HandoverError): void {
    this.#failure ??= error;
    this.#wake();
  }
}

const BROKEN = new Set(["ECONNRESET", "EPIPE"]);

const SILENT = "the process there does not answer; it may be busy, or not ready yet";

const WHY: Record<string, string> = {
  ENOENT: "there is no such socket",
  ENOTSOCK: "it is not a socket",
  ECONNREFUSED: "the process that it belonged to is gone",
  EACCES: "permission denied: only the user that the process runs as, or root, may control it",
};

function unreachable(path: string, why: string | undefined, cause?: Error): HandoverError {
  const message = `cannot reach a process at ${path}: ${why ?? cause?.message ?? "unknown"}`;
  return new HandoverError("ERR_CONTROL", message, { cause });
}

function failure({ code, message }: Record<string, unknown>): HandoverError {
  return new HandoverError(code as ErrorCode, String(message));
}
