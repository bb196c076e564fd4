import {
  Agent,
  request as httpRequest,
  type ClientRequest,
  type IncomingMessage,
  type RequestOptions,
} from "node:http";
import { Agent as TlsAgent, request as httpsRequest } from "node:https";
import type { ConnectionOptions } from "node:tls";
import { reasonOf } from "../errors.js";
import { bootTime } from "../hosts/boot-time.js";
import type { EngineClock } from "./engine-clock.js";
import { AwayError, isElsewhere, isUnauthorized, refusalOf, unreachable } from "./away-error.js";
import { readTxn, type Condition, type Operation, type TxnResult } from "./txn.js";

/** How etcd is reached. */
export interface GatewaySettings {
  readonly endpoints: readonly URL[];
  readonly tls: ConnectionOptions;
  readonly user: { readonly name: string; readonly password: string } | undefined;
}

/** The JSON gateway of etcd. It asks one endpoint, and the next one if that does not answer. */
export class Gateway {
  readonly #settings: GatewaySettings;
  readonly #timeout: number;
  readonly #clock: EngineClock;
  readonly #agents: { readonly "http:": Agent; readonly "https:": TlsAgent };
  #current = 0;
  #token: Promise<string> | undefined;

  /** @param timeout for one answer, in ms */
  constructor(settings: GatewaySettings, timeout: number, clock: EngineClock) {
    this.#settings = settings;
    this.#timeout = timeout;
    this.#clock = clock;
    const options = { keepAlive: true };
    this.#agents = { "http:": new Agent(options), "https:": new TlsAgent({ ...options, ...settings.tls }) };
  }

  close(): void {
    for (const agent of Object.values(this.#agents)) agent.destroy();
  }

  /** What is asked from now on goes over new connections, to another endpoint if there is one. */
  reconnect(): void {
    this.#useNext();
    this.#dropIdle();
  }

  /** The version of the member that is asked: the cluster's is not decided at once. */
  async version(): Promise<string> {
    const found = (await this.#ask("/version", undefined, true)) as { etcdserver?: string };
    return String(found.etcdserver);
  }

  /** @param mayRepeat whether another endpoint may be asked if it is not known whether it was done */
  async txn(
    compare: readonly Condition[],
    success: readonly Operation[],
    failure: readonly Operation[] = [],
    mayRepeat = false,
  ): Promise<TxnResult> {
    return readTxn((await this.#ask("/v3/kv/txn", { compare, success, failure }, mayRepeat)) as object);
  }

  async read(operations: readonly Operation[]): Promise<TxnResult> {
    return this.txn([], operations, [], true);
  }

  /** Makes a lease. One that is there already is renewed. */
  async grant(lease: string, seconds: number): Promise<void> {
    try {
      await this.#ask("/v3/lease/grant", { ID: lease, TTL: String(seconds) }, true);
    } catch (error) {
      if (!(error instanceof AwayError) || error.reason !== "etcdserver: lease already exists") throw error;
      await this.renew(lease);
    }
  }

  /** False if it has ended. */
  async renew(lease: string): Promise<boolean> {
    const { result } = (await this.#ask("/v3/lease/keepalive", { ID: lease }, true)) as {
      result?: { TTL?: string };
    };
    return Number(result?.TTL ?? 0) > 0;
  }

  async revoke(lease: string): Promise<void> {
    await this.#ask("/v3/lease/revoke", { ID: lease }, true).catch((error: unknown) => {
      if (!(error instanceof AwayError) || error.reason !== "etcdserver: requested lease not found")
        throw error;
    });
  }

  /**
   * Asks a question that is answered line by line. Returns a function that ends the answer.
   *
   * @param body one message a line
   * @param heard is called with each line of the answer
   * @param ended is called once, unless it was ended here
   */
  stream(path: string, body: string, heard: (line: string) => void, ended: () => void): () => void {
    let isOver = false;
    let request: ClientRequest | undefined;
    const end = (): void => {
      if (isOver) return;
      isOver = true;
      ended();
    };
    void this.#authorization().then((headers) => {
      if (isOver) return;
      request = this.#request(this.#endpoint, path, headers, (response) => {
        let text = "";
        response.setEncoding("utf8").on("data", (chunk: string) => {
          const lines = (text + chunk).split("\n");
          text = lines.pop()!;
          for (const line of lines) if (!isOver) heard(line);
        });
        response.on("close", end).on("error", end);
      });
      request.on("error", () => {
        this.#useNext();
        end();
      });
      // The gateway begins when the whole question is there.
      request.end(body);
    }, end);
    return () => {
      isOver = true;
      request?.destroy();
    };
  }

  get #endpoint(): URL {
    return this.#settings.endpoints[this.#current]!;
  }

  #useNext(): void {
    this.#current = (this.#current + 1) % this.#settings.endpoints.length;
  }

  /** A connection that waits for a question may be half open, if another one is. */
  #dropIdle(): void {
    for (const { freeSockets } of Object.values(this.#agents))
      for (const socket of Object.values(freeSockets).flat()) socket?.destroy();
  }

  async #ask(path: string, body: object | undefined, mayRepeat: boolean): Promise<unknown> {
    const text = body === undefined ? undefined : JSON.stringify(body);
    for (let attempt = 1; ; attempt++) {
      const asked = this.#current;
      try {
        return await this.#askAuthorized(path, text);
      } catch (error) {
        if (!isElsewhere(error)) throw error;
        // Another question may have moved on already.
        if (this.#current === asked) this.#useNext();
        if (attempt >= this.#settings.endpoints.length || ((error as AwayError).isAmbiguous && !mayRepeat))
          throw error;
      }
    }
  }

  async #askAuthorized(path: string, text: string | undefined): Promise<unknown> {
    const using = text === undefined ? undefined : this.#token;
    try {
      return await this.#send(path, text, text === undefined ? {} : await this.#authorization());
    } catch (error) {
      // A token ends after some minutes, and with etcd.
      if (this.#settings.user === undefined || !isUnauthorized(error)) throw error;
      if (this.#token === using) this.#token = undefined;
      return this.#send(path, text, await this.#authorization());
    }
  }

  async #authorization(): Promise<Record<string, string>> {
    const { user } = this.#settings;
    if (user === undefined) return {};
    const asking = (this.#token ??= this.#send("/v3/auth/authenticate", JSON.stringify(user), {}).then(
      (answer) => (answer as { token: string }).token,
    ));
    asking.catch(() => {
      if (this.#token === asking) this.#token = undefined;
    });
    return { authorization: await asking };
  }

  /** One question to the present endpoint. */
  async #send(path: string, text: string | undefined, headers: Record<string, string>): Promise<unknown> {
    const endpoint = this.#endpoint;
    const sent = bootTime();
    let isConnected = false;
    return new Promise((resolve, reject) => {
      const fail = (error: unknown): void => reject(unreachable(endpoint, error, isConnected));
      const request = this.#request(endpoint, path, headers, (response) => {
        this.#clock.observe(response.headers.date, sent, bootTime());
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk)).on("error", fail);
        response.on("end", () => {
          const answer = Buffer.concat(chunks).toString();
          const status = response.statusCode!;
          try {
            if (status !== 200) throw refusalOf(endpoint, status, answer, this.#settings.user?.name);
            resolve(JSON.parse(answer));
          } catch (error) {
            reject(error instanceof AwayError ? error : unreachable(endpoint, reasonOf(error), true));
          }
        });
      });
      const giveUp = (): void => {
        this.#dropIdle();
        request.destroy(new Error(`no answer in ${this.#timeout} ms`));
      };
      const timer = setTimeout(giveUp, this.#timeout + Math.ceil((text?.length ?? 0) / SLOWEST));
      request.on("socket", (socket) => {
        isConnected = request.reusedSocket;
        if (isConnected) return;
        const event = endpoint.protocol === "https:" ? "secureConnect" : "connect";
        socket.once(event, () => (isConnected = true));
      });
      request.on("error", fail).on("close", () => clearTimeout(timer));
      request.end(text);
    });
  }

  #request(
    endpoint: URL,
    path: string,
    headers: Record<string, string>,
    answered: (response: IncomingMessage) => void,
  ): ClientRequest {
    const isTls = endpoint.protocol === "https:";
    const options: RequestOptions = {
      agent: this.#agents[isTls ? "https:" : "http:"],
      method: path === "/version" ? "GET" : "POST",
      headers,
    };
    return (isTls ? httpsRequest : httpRequest)(new URL(path, endpoint), options, answered);
  }
}

/** Bytes per ms. */
const SLOWEST = 2_048;
