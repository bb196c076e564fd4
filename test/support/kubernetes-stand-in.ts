import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { randomUUID } from "node:crypto";
import { selfSigned } from "./client.js";

/** A Lease, as the API server has it. */
export interface StoredLease {
  metadata: {
    name: string;
    uid: string;
    resourceVersion: string;
    labels?: Record<string, string>;
    annotations?: Record<string, string>;
  };
  spec: {
    holderIdentity?: string;
    leaseDurationSeconds?: number;
    acquireTime?: string;
    renewTime?: string;
    leaseTransitions?: number;
  };
}

/**
 * A stand-in for the API server of Kubernetes, as its documentation describes the part that is used: Leases with
 * `resourceVersion` conflicts, lists, watches, access reviews, tokens. It is no Kubernetes: it shows that the requests are as
 * documented, and what conflicts and failures lead to.
 */
export class KubernetesStandIn {
  readonly #server: Server;
  readonly #directory: string;
  readonly #leases = new Map<string, StoredLease>();
  readonly #watches = new Set<{ label: string; response: ServerResponse }>();
  #version = 100;
  #token = "";
  /** What was written, in order: `create cron 200`. */
  readonly writes: string[] = [];
  /** How often Leases were listed. */
  lists = 0;
  /** The verbs that the service account may not use. */
  readonly forbidden = new Set<string>();
  #isStalled = false;

  static async start(): Promise<KubernetesStandIn> {
    const directory = mkdtempSync(join(tmpdir(), "handover-kubernetes-"));
    const { key, cert } = selfSigned("subjectAltName=IP:127.0.0.1");
    const server = createServer({ key, cert }).listen(0, "127.0.0.1");
    await once(server, "listening");
    writeFileSync(join(directory, "ca.crt"), cert);
    writeFileSync(join(directory, "namespace"), "chats");
    return new KubernetesStandIn(server, directory);
  }

  private constructor(server: Server, directory: string) {
    this.#server = server;
    this.#directory = directory;
    this.renewToken();
    server.on("request", (request: IncomingMessage, response: ServerResponse) => {
      if (!this.#isStalled) void this.#answer(request, response);
    });
  }

  /** What a pod has in its environment. */
  get environment(): Record<string, string> {
    const { port } = this.#server.address() as AddressInfo;
    return { KUBERNETES_SERVICE_HOST: "127.0.0.1", KUBERNETES_SERVICE_PORT: String(port) };
  }

  /** The directory of the service account's files. */
  get serviceAccount(): string {
    return this.#directory;
  }

  /** From now on only another token is valid. The pods find it in its file. */
  renewToken(): void {
    this.#token = randomUUID();
    writeFileSync(join(this.#directory, "token"), this.#token);
  }

  /** From now on nothing is answered. */
  stall(): void {
    this.#isStalled = true;
  }

  lease(name: string): StoredLease | undefined {
    return this.#leases.get(name);
  }

  /** As a person does with kubectl. */
  remove(name: string): void {
    const lease = this.#leases.get(name)!;
    this.#leases.delete(name);
    this.#tell("DELETED", lease);
  }

  /** As another program does. */
  put(
    lease: Omit<StoredLease, "metadata"> & { metadata: Partial<StoredLease["metadata"]> & { name: string } },
  ): void {
    const uid = this.#leases.get(lease.metadata.name)?.metadata.uid ?? randomUUID();
    const stored = { ...lease, metadata: { uid, ...lease.metadata, resourceVersion: this.#next() } };
    this.#leases.set(lease.metadata.name, stored);
    this.#tell("MODIFIED", stored);
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    rmSync(this.#directory, { recursive: true, force: true });
  }

  #next(): string {
    return String(++this.#version);
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = "", headers } = request;
    const { pathname, searchParams } = new URL(request.url!, "https://x");
    let text = "";
    for await (const chunk of request.setEncoding("utf8")) text += chunk as string;
    const send = (status: number, body: object): void => {
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
    };
    const fail = (status: number, message: string): void => {
      send(status, { kind: "Status", status: "Failure", code: status, message });
    };
    if (headers.authorization !== `Bearer ${this.#token}`) return fail(401, "Unauthorized");
    if (pathname === "/version") return send(200, { gitVersion: "v1.30.1" });
    const body = (text === "" ? {} : JSON.parse(text)) as Record<string, unknown>;
    if (pathname === "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews") {
      const { verb } = (body["spec"] as { resourceAttributes: { verb: string } }).resourceAttributes;
      return send(201, { ...body, status: { allowed: !this.forbidden.has(verb) } });
    }
    const [, name] = /^\/apis\/coordination\.k8s\.io\/v1\/namespaces\/chats\/leases(?:\/(.+))?$/.exec(
      pathname,
    ) ?? ["", "?"];
    if (name === "?") return fail(404, `the server could not find the requested resource`);
    const watches = searchParams.get("watch") === "true";
    const verb =
      method === "POST"
        ? "create"
        : method === "PUT"
          ? "update"
          : name !== undefined
            ? "get"
            : watches
              ? "watch"
              : "list";
    if (this.forbidden.has(verb)) return fail(403, `leases is forbidden: cannot ${verb} resource "leases"`);
    const label = searchParams.get("labelSelector") ?? "";
    switch (verb) {
      case "get": {
        const lease = this.#leases.get(name);
        return lease === undefined
          ? fail(404, `leases "${name}" not found`)
          : send(200, { ...TYPE, ...lease });
      }
      case "list": {
        this.lists++;
        const items = [...this.#leases.values()].filter((one) => isLabelled(one, label));
        return send(200, { kind: "LeaseList", metadata: { resourceVersion: String(this.#version) }, items });
      }
      case "watch": {
        response.writeHead(200, { "content-type": "application/json" }).flushHeaders();
        const watch = { label, response };
        this.#watches.add(watch);
        response.on("close", () => this.#watches.delete(watch));
        return undefined;
      }
      default: {
        const [status, answer] = this.#write(verb, name, body as unknown as StoredLease);
        this.writes.push(`${verb} ${(body as unknown as StoredLease).metadata.name} ${status}`);
        return status < 300 ? send(status, answer as object) : fail(status, answer as string);
      }
    }
  }

  #write(verb: string, name: string | undefined, lease: StoredLease): [number, object | string] {
    const { metadata, spec } = lease;
    const times = [spec.acquireTime, spec.renewTime].filter((time) => time !== undefined);
    if (times.some((time) => !/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/.test(time)))
      return [400, `parsing time: a MicroTime has six digits`];
    if (!(Number.isInteger(spec.leaseDurationSeconds) && spec.leaseDurationSeconds! > 0))
      return [422, "spec.leaseDurationSeconds: Invalid value: must be greater than 0"];
    const labels = Object.values(metadata.labels ?? {});
    if (!/^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/.test(metadata.name) || metadata.name.length > 253)
      return [422, "metadata.name: Invalid value"];
    if (labels.some((value) => !/^(?:[A-Za-z0-9](?:[-\w.]{0,61}[A-Za-z0-9])?)?$/.test(value)))
      return [422, "metadata.labels: Invalid value"];
    const found = this.#leases.get(metadata.name);
    if (verb === "create") {
      if (found !== undefined) return [409, `leases "${metadata.name}" already exists`];
    } else if (found === undefined || name !== metadata.name) {
      return [404, `leases "${metadata.name}" not found`];
    } else if (metadata.resourceVersion === undefined) {
      return [422, "metadata.resourceVersion: Invalid value: 0x0: must be specified for an update"];
    } else if (
      metadata.resourceVersion !== found.metadata.resourceVersion ||
      metadata.uid !== found.metadata.uid
    ) {
      return [
        409,
        "the object has been modified; please apply your changes to the latest version and try again",
      ];
    }
    const uid = found?.metadata.uid ?? randomUUID();
    const stored = { ...lease, metadata: { ...metadata, uid, resourceVersion: this.#next() } };
    this.#leases.set(metadata.name, stored);
    this.#tell(verb === "create" ? "ADDED" : "MODIFIED", stored);
    return [verb === "create" ? 201 : 200, { ...TYPE, ...stored }];
  }

  #tell(type: string, lease: StoredLease): void {
    for (const { label, response } of this.#watches)
      if (isLabelled(lease, label))
        response.write(`${JSON.stringify({ type, object: { ...TYPE, ...lease } })}\n`);
  }
}

function isLabelled({ metadata }: StoredLease, selector: string): boolean {
  const [key = "", value] = selector.split("=");
  return metadata.labels?.[key] === value;
}

const TYPE = { apiVersion: "coordination.k8s.io/v1", kind: "Lease" };
