import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { chownSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { leaseOf } from "../../dist/etcd/keys.js";
import { base64 } from "../../dist/etcd/txn.js";
import { etcd, type EtcdOptions } from "../../dist/etcd/index.js";
import { NOBODY } from "./another-user.js";
import { freePort } from "./port.js";
import { untilSaid } from "./until-said.js";

interface Entry {
  readonly key: string;
  readonly value: string;
  readonly revision: string;
}

/** A key that was put, or removed. */
interface Change {
  /** Without the service's name. */
  readonly key: string;
  readonly value: string | undefined;
}

/** An etcd of its own, of one member, in a temporary directory, on the loopback interface. It does not run as root. */
export class Etcd {
  readonly port: number;
  readonly #peerPort: number;
  readonly #directory: string;
  readonly #flags: readonly string[];
  readonly #user: { uid: number; gid: number } | undefined;
  readonly #scheme: "http" | "https";
  #cluster: string | undefined;
  #process: ChildProcess | undefined;

  /** @param flags of its command line; with those of TLS it must be told so */
  static async start(flags: readonly string[] = [], scheme: "http" | "https" = "http"): Promise<Etcd> {
    const server = new Etcd(...(await place()), flags, scheme);
    await server.run();
    return server;
  }

  /** Members of one cluster, which answer as soon as most of them run. */
  static async cluster(count: number): Promise<Etcd[]> {
    const members: Etcd[] = [];
    while (members.length < count) members.push(new Etcd(...(await place()), [], "http"));
    const all = members.map((member) => `${member.#name}=${member.#peers}`).join(",");
    for (const member of members) member.#cluster = all;
    await Promise.all(members.map(async (member) => member.run()));
    return members;
  }

  private constructor(
    directory: string,
    [port, peerPort]: readonly [number, number],
    user: { uid: number; gid: number } | undefined,
    flags: readonly string[],
    scheme: "http" | "https",
  ) {
    this.#directory = directory;
    this.port = port;
    this.#peerPort = peerPort;
    this.#flags = flags;
    this.#user = user;
    this.#scheme = scheme;
  }

  get url(): string {
    return `${this.#scheme}://127.0.0.1:${this.port}`;
  }

  get #peers(): string {
    return `http://127.0.0.1:${this.#peerPort}`;
  }

  get #name(): string {
    return `member-${this.port}`;
  }

  /** Whether it leads the cluster. */
  async isLeader(): Promise<boolean> {
    const { leader, header } = (await this.ask("/v3/maintenance/status", {})) as {
      leader: string;
      header: { member_id: string };
    };
    return leader === header.member_id;
  }

  /** Starts it, again after it was killed. Resolves when it answers. */
  async run(): Promise<void> {
    const peers = this.#peers;
    const addresses = {
      name: this.#name,
      "listen-client-urls": this.url,
      "advertise-client-urls": this.url,
      "listen-peer-urls": peers,
      "initial-advertise-peer-urls": peers,
      "initial-cluster": this.#cluster ?? `${this.#name}=${peers}`,
    };
    const flags = Object.entries(addresses).flatMap(([name, value]) => [`--${name}`, value]);
    const server = spawn("etcd", ["--data-dir", join(this.#directory, "data"), ...flags, ...this.#flags], {
      ...this.#user,
      cwd: this.#directory,
      stdio: ["ignore", "ignore", "pipe"],
    });
    this.#process = server;
    await untilSaid(server.stderr, /serving (?:insecure )?client (?:requests|traffic)/);
  }

  /** Kills it, and waits until it is dead. */
  async kill(): Promise<void> {
    const server = this.#process;
    this.#process = undefined;
    if (server === undefined || server.exitCode !== null || server.signalCode !== null) return;
    server.kill("SIGKILL");
    await once(server, "exit");
  }

  /** Kills it, and removes its files. */
  async remove(): Promise<void> {
    await this.kill();
    rmSync(this.#directory, { recursive: true, force: true });
  }

  /** The value of the option `exchange`. */
  exchange(options: Partial<EtcdOptions> = {}): ReturnType<typeof etcd> {
    return etcd({ service: "test", endpoints: [this.url], ...options });
  }

  /** One question to the gateway. */
  async ask(
    path: string,
    body: object,
    headers: Record<string, string> = {},
  ): Promise<Record<string, unknown>> {
    const response = await fetch(`${this.url}${path}`, {
      method: "POST",
      headers,
      body: JSON.stringify(body),
    });
    const answer = (await response.json()) as Record<string, unknown>;
    if (!response.ok) throw new Error(`${path}: ${JSON.stringify(answer)}`);
    return answer;
  }

  /** The keys of a service that begin with `prefix`, without the service's name. */
  async entries(service: string, prefix: string): Promise<Entry[]> {
    const root = `/handover/${service}/`;
    const key = `${root}${prefix}`;
    const end = `${key.slice(0, -1)}${String.fromCodePoint(key.codePointAt(key.length - 1)! + 1)}`;
    const { kvs = [] } = (await this.ask("/v3/kv/range", {
      key: base64(key),
      range_end: base64(end),
    })) as { kvs?: { key: string; value?: string; mod_revision: string }[] };
    return kvs.map((one) => ({
      key: Buffer.from(one.key, "base64").toString().slice(root.length),
      value: Buffer.from(one.value ?? "", "base64").toString(),
      revision: one.mod_revision,
    }));
  }

  /** What has happened to the keys of a service: the changes of each transaction. */
  async history(service: string): Promise<Change[][]> {
    // What is told after this need not be read.
    await this.put(service, END, "");
    const root = `/handover/${service}/`;
    const range = { key: base64(root), range_end: base64(`${root.slice(0, -1)}0`), start_revision: "1" };
    const { body } = await fetch(`${this.url}/v3/watch`, {
      method: "POST",
      body: JSON.stringify({ create_request: range }),
    });
    const changes = new Map<string, Change[]>();
    let text = "";
    for await (const chunk of body!.pipeThrough(new TextDecoderStream())) {
      const lines = (text + chunk).split("\n");
      text = lines.pop()!;
      for (const line of lines) {
        const { result } = JSON.parse(line) as { result: { events?: WireChange[] } };
        for (const { type, kv } of result.events ?? []) {
          const key = Buffer.from(kv.key, "base64").toString().slice(root.length);
          if (key === END) return [...changes.values()];
          const value = type === "DELETE" ? undefined : Buffer.from(kv.value ?? "", "base64").toString();
          const same = changes.get(kv.mod_revision);
          if (same === undefined) changes.set(kv.mod_revision, [{ key, value }]);
          else same.push({ key, value });
        }
      }
    }
    throw new Error("the watch has ended");
  }

  async put(service: string, key: string, value: string): Promise<void> {
    await this.ask("/v3/kv/put", {
      key: base64(`/handover/${service}/${key}`),
      value: base64(value),
    });
  }

  /** Ends the lease of a seat, if it has not ended by itself. */
  async expire(seat: string): Promise<void> {
    await this.ask("/v3/lease/revoke", { ID: leaseOf(seat) }).catch((error: Error) => {
      if (!error.message.includes("requested lease not found")) throw error;
    });
  }
}

/** A directory, two ports, and the user that runs it. */
async function place(): Promise<[string, [number, number], { uid: number; gid: number } | undefined]> {
  const directory = mkdtempSync(join(tmpdir(), "handover-etcd-"));
  const user = process.getuid!() === 0 ? { uid: NOBODY, gid: NOBODY } : undefined;
  if (user !== undefined) chownSync(directory, user.uid, user.gid);
  return [directory, [await freePort(), await freePort()], user];
}

/** A key that ends the history of a service. */
const END = "end";

interface WireChange {
  readonly type?: "DELETE";
  readonly kv: { readonly key: string; readonly value?: string; readonly mod_revision: string };
}
