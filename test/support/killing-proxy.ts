import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { deferred } from "../../dist/util/deferred.js";

/** When the database is killed: before a statement reaches it, or when it is done and the answer is not passed on. */
export type Moment = "before" | "after";

/** How a statement is recognized, and its answer, in the bytes of the protocol. */
export interface Statement {
  readonly asked: string;
  readonly answered: string | Buffer;
}

/** A proxy before a database, which meets one statement of all that pass. */
export class KillingProxy {
  /** Resolves when the statement was met and `meet` has ended. */
  readonly met: Promise<void>;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #statement: Statement;
  readonly #moment: Moment;
  readonly #meet: () => void;
  #isArmed = true;

  /** @param meet is called once. Nothing more passes on that connection */
  static async start(
    target: number,
    statement: Statement,
    moment: Moment,
    meet: () => Promise<void>,
  ): Promise<KillingProxy> {
    const proxy = new KillingProxy(target, statement, moment, meet);
    proxy.#server.listen(0, "127.0.0.1");
    await once(proxy.#server, "listening");
    return proxy;
  }

  private constructor(target: number, statement: Statement, moment: Moment, meet: () => Promise<void>) {
    this.#statement = statement;
    this.#moment = moment;
    const { promise, resolve } = deferred<void>();
    this.met = promise;
    this.#meet = () => void meet().then(resolve);
    this.#server = createServer((client) => this.#join(client, connect(target, "127.0.0.1")));
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Cuts all connections. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  close(): void {
    this.#server.close();
    this.cut();
  }

  #join(client: Socket, database: Socket): void {
    let isMet = false;
    let isAsked = false;
    for (const [socket, other] of [
      [client, database],
      [database, client],
    ] as const) {
      this.#sockets.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => {
        this.#sockets.delete(socket);
        other.destroy();
      });
    }
    client.on("data", (data) => {
      if (this.#isArmed && data.includes(this.#statement.asked)) {
        this.#isArmed = false;
        isAsked = true;
        isMet = this.#moment === "before";
        if (isMet) this.#meet();
      }
      if (!isMet) database.write(data);
    });
    database.on("data", (data) => {
      if (isAsked && !isMet && data.includes(this.#statement.answered)) {
        isMet = true;
        this.#meet();
      }
      if (!isMet) client.write(data);
    });
  }
}

/** The message with which PostgreSQL says that the transaction is done. */
export const READY = Buffer.from("Z\0\0\0\u0005I", "latin1");
