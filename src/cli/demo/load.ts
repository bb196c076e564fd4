import { Agent } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { ask, type Reply, type Wish } from "./request.js";
import type { Service } from "./demo-service.js";
import type { Kind, Tally } from "./tally.js";

/** Clients that send one request after another, all the time, and never retry. */
export class Load {
  static readonly DESCRIPTION = "32 clients send requests all the time, and none retries";
  readonly #service: Service;
  readonly #tally: Tally;
  readonly #clients: Promise<void>[];
  readonly #agents: Agent[] = [];
  #isOver = false;

  /** Starts the clients. */
  constructor(service: Service, tally: Tally) {
    this.#service = service;
    this.#tally = tally;
    this.#clients = (Object.keys(CLIENTS) as Kind[]).flatMap((kind) =>
      Array.from({ length: CLIENTS[kind] }, () => this.#run(kind)),
    );
  }

  /** Lets every client finish its current request. */
  async finish(): Promise<void> {
    this.#isOver = true;
    await Promise.all(this.#clients);
  }

  /** Stops counting, and closes the connections. */
  abort(): void {
    this.#isOver = true;
    this.#tally.close();
    for (const agent of this.#agents) agent.destroy();
  }

  async #run(kind: Kind): Promise<void> {
    // Each client has one connection, except those that open a new one for each request.
    const agent: Agent | false = kind === "fresh" ? false : new Agent({ keepAlive: true, maxSockets: 1 });
    if (agent) this.#agents.push(agent);
    for (let n = 0; !this.#isOver; n++) {
      const wish = { ...WISHES[kind](n), port: this.#service.port, agent };
      const { generation } = this.#service;
      const start = performance.now();
      try {
        const reply = await ask(wish, () => this.#tally.addClosed(kind));
        this.#tally.addRequest(kind, performance.now() - start, fault(kind, wish, reply, generation));
      } catch (error) {
        const { code, message } = error as NodeJS.ErrnoException;
        this.#tally.addRequest(kind, performance.now() - start, code ?? message);
      }
      await sleep(SHORTEST_PAUSE + Math.random() * SHORTEST_PAUSE);
    }
  }
}

const CLIENTS: Record<Kind, number> = { fresh: 8, "keep-alive": 12, slow: 6, streaming: 6 };

/** ms; at full speed 32 clients would only measure how busy the machine is. */
const SHORTEST_PAUSE = 15;

/** The n-th request of a client of each kind. */
const WISHES: Record<Kind, (n: number) => Wish> = {
  fresh: () => ({ path: "/" }),
  "keep-alive": (n) => (n % 2 === 0 ? post(`order ${n}`) : { path: "/" }),
  slow: () => ({ path: "/slow" }),
  streaming: () => ({ path: "/stream", expected: "0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n" }),
};

function post(body: string): Wish {
  return { path: "/", body, expected: body };
}

/** Why a reply is wrong; undefined if it is right. */
function fault(kind: Kind, { expected }: Wish, reply: Reply, generation: number): string | undefined {
  if (reply.status !== 200) return `HTTP_${reply.status}`;
  if (expected !== undefined && reply.text !== expected) return "WRONG_BODY";
  // A new connection must not reach a process that had been replaced before it was made.
  return kind === "fresh" && reply.generation < generation ? "STALE" : undefined;
}
