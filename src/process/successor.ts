import { fstatSync } from "node:fs";
import { Channel } from "../channel/channel.js";
import { closeAll } from "../platform/descriptors.js";
import { ENTRIES_PER_MESSAGE, type Message } from "../channel/messages.js";
import { deferred } from "../util/deferred.js";
import { HandoverError, reasonOf } from "../errors.js";
import type { Exchange } from "../exchange/exchange.js";
import { LocalExchange } from "../exchange/local-exchange.js";
import type { Send } from "../exchange/outbox.js";
import type { InventoryItem } from "../sockets/inventory.js";
import type { Command } from "./command.js";
import { CHANNEL_VARIABLE, greeting } from "./inheritance.js";
import type { Predecessor, DrainProgress } from "./predecessor.js";
import { startProcess, type ExitStatus, type SpawnedProcess } from "./spawn.js";

/** What the successor says after it is ready. */
export interface SuccessorListener {
  stopping(): void;
  /** It, or a later generation that reads its end of the channel, asks how the drain is going. */
  progress(): DrainProgress;
}

/** What a process knows of its successor. It owns the successor's process until it lets go of it. */
export class Successor {
  /** Resolves when the successor is; rejects, once it is dead, with what went wrong. */
  readonly ready: Promise<void>;
  /** Resolves when it is dead, with how that came. */
  readonly dead: Promise<HandoverError>;
  /** Resolves when its channel has ended, or is closed: that is known of one that lives without us, too. */
  readonly gone: Promise<void>;
  readonly #process: SpawnedProcess;
  readonly #channel: Channel;
  readonly #listener: SuccessorListener;
  readonly #exchange: LocalExchange;
  #saidHello = false;
  #isDead = false;
  #isOwned = true;
  #failure: HandoverError | undefined;
  #used: ReadonlySet<string> = new Set();
  #resolveReady!: () => void;
  readonly #resolveGone: () => void;
  #grace: NodeJS.Timeout | undefined;

  /**
   * Starts a successor, with everything it inherits on its way before it runs: it can be read even if this
   * process is busy, or dead, by then.
   *
   * @throws {HandoverError} `ERR_SPAWN`
   */
  static async start(
    command: Command,
    generation: number,
    items: readonly InventoryItem[],
    listener: SuccessorListener,
  ): Promise<Successor> {
    const doing = `cannot start a successor, ${[command.argv0, ...command.args].join(" ")} in ${command.cwd}`;
    let channel: Channel | undefined;
    try {
      const [own, other] = Channel.pair();
      channel = own;
      try {
        channel.send(greeting(generation));
        sendItems(channel, items);
        return new Successor(channel, await spawnWith(command, other), generation + 1, listener);
      } finally {
        closeAll([other]);
      }
    } catch (cause) {
      if (channel !== undefined) endUnstarted(channel);
      throw new HandoverError("ERR_SPAWN", `${doing}: ${reasonOf(cause)}`, { cause });
    }
  }

  private constructor(
    channel: Channel,
    child: SpawnedProcess,
    generation: number,
    listener: SuccessorListener,
  ) {
    this.#channel = channel;
    this.#process = child;
    this.#listener = listener;
    const send: Send = (...message) => channel.send(...message);
    this.#exchange = new LocalExchange(send, { generation, pid: child.pid }, takesNothing);
    const gone = deferred<void>();
    this.gone = gone.promise;
    this.#resolveGone = gone.resolve;
    this.dead = child.exited.then((ending) => {
      this.#isDead = true;
      clearTimeout(this.#grace);
      return exited(child.pid, ending);
    });
    this.ready = new Promise((resolve, reject) => {
      this.#resolveReady = resolve;
      void this.dead.then((how) => reject(this.#failure ?? how));
    });
    // Whoever waits for it hears of the failure; after the commit nobody does.
    this.ready.catch(() => {});
    channel.listen({
      message: (message, fds, body) => this.#receive(message, fds, body),
      end: (error) => this.#onEnd(error),
    });
  }

  get pid(): number {
    return this.#process.pid;
  }

  /** The names that it uses of what it has inherited. */
  get used(): ReadonlySet<string> {
    return this.#used;
  }

  /** On which this process offers what it has. */
  get exchange(): Exchange {
    return this.#exchange;
  }

  /** Ends it, for `reason`: {@link ready} rejects with that. */
  fail(reason: HandoverError): void {
    this.#failure ??= reason;
    this.kill();
  }

  /** Reads what it has said before it is declared late. */
  readNow(): void {
    this.#channel.readNow();
  }

  /** Tells it to accept. False if it is gone. */
  sendCommit(
    predecessors: readonly Predecessor[],
    ticketKeys: Record<string, string>,
    fence: number,
  ): boolean {
    const told = predecessors.map(({ generation, pid }) => ({ generation, pid }));
    return this.#channel.send(
      { type: "commit", predecessors: told, ticketKeys, fence },
      predecessors.map((one) => one.passChannelOn()),
    );
  }

  /** Tells it that it was only tried, and sees it dead. */
  async endRehearsal(): Promise<void> {
    this.#channel.send({ type: "rehearsed" });
    const late = setTimeout(() => this.kill(), GRACE);
    await this.dead;
    clearTimeout(late);
    this.close();
  }

  sendConfirmed(): void {
    this.#channel.send({ type: "confirmed" });
    this.#exchange.confirm();
  }

  sendStopping(): void {
    this.#channel.send({ type: "stopping" });
  }

  kill(): void {
    if (!this.#isDead) this.#process.kill();
  }

  /** Probation is over: it need not be this process's child any more. */
  async detachProcess(): Promise<void> {
    await this.#process.detach();
  }

  /** From now on it lives without us. The channel stays open: its end tells that this process is gone. */
  disown(): void {
    this.#isOwned = false;
    clearTimeout(this.#grace);
    this.#process.unref();
  }

  /** After its death. */
  close(): void {
    this.#channel.close();
    this.#exchange.end();
    this.#resolveGone();
  }

  #receive(message: Message, fds: number[], body: Uint8Array): void {
    if (this.#exchange.receive(message, fds, body)) return;
    closeAll(fds);
    if (message.type === "hello") this.#saidHello = true;
    else if (message.type === "stopping") this.#listener.stopping();
    else if (message.type === "confirmed") this.#exchange.confirm();
    else if (message.type === "progress-query")
      this.#channel.send({ type: "progress", ...this.#listener.progress() });
    else if (message.type === "ready") {
      if (this.#saidHello) this.#onReady(message.used);
      else this.fail(new HandoverError("ERR_PROTOCOL", `the successor (pid ${this.pid}) did not say hello`));
    }
  }

  /** What it takes into use while it waits for go it says by another one. */
  #onReady(used: readonly string[]): void {
    this.#used = new Set(used);
    this.#resolveReady();
  }

  /** Its death is reported on its own; a successor that lives on without its channel is of no use. */
  #onEnd(error: HandoverError | undefined): void {
    this.#exchange.end();
    this.#resolveGone();
    if (!this.#isOwned || this.#isDead) return;
    this.#process.requestStatus();
    const reason =
      error ??
      new HandoverError("ERR_PROTOCOL", `the successor (pid ${this.pid}) closed its channel, and lived on`);
    if (error !== undefined) return this.fail(reason);
    this.#grace = setTimeout(() => this.fail(reason), GRACE);
  }
}

/** Older generations are offered nothing, so that nothing of theirs needs a fence. */
const takesNothing = (): number => 0;

/** How long, in ms, a death may follow the end of the channel. */
const GRACE = 1_000;

/** A process that runs all the same would take the end of the channel for its parent's death, and serve. It is to end first. */
function endUnstarted(channel: Channel): void {
  channel.send({ type: "rehearsed" });
  channel.listen({ message: (_, fds) => closeAll(fds), end: () => channel.close() });
  channel.readNow();
}

function sendItems(channel: Channel, items: readonly InventoryItem[]): void {
  let start = 0;
  do {
    const some = items.slice(start, (start += ENTRIES_PER_MESSAGE));
    const entries = some.map(({ fd: _, ...entry }) => entry);
    channel.send(
      { type: "inventory", entries, more: start < items.length },
      some.map((item) => item.fd),
    );
  } while (start < items.length);
}

function spawnWith(command: Command, channel: number): Promise<SpawnedProcess> {
  const inode = fstatSync(channel, { bigint: true }).ino;
  return startProcess(command, channel, { ...command.env, [CHANNEL_VARIABLE]: `3:${inode}` });
}

function exited(pid: number, { code, signal }: ExitStatus): HandoverError {
  const how = signal === null ? `exited with code ${code}` : `was killed by ${signal}`;
  return new HandoverError("ERR_CHILD_EXITED", `the successor (pid ${pid}) ${how}`, {
    cause: { code, signal },
  });
}
