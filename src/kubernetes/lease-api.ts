import type { EngineProblem } from "../exchange/hosts.js";
import { ApiServer } from "./api-server.js";
import { labelOf, SERVICE_LABEL, type Lease } from "./lease-object.js";

/** Where the Leases of a service are. */
export interface LeasePlace {
  readonly service: string;
  /** Undefined: that of the pod. */
  readonly namespace: string | undefined;
  readonly serviceAccount: string;
}

/** The Leases of one service, as the API server has them. */
export class LeaseApi {
  readonly #server: ApiServer;
  readonly #place: LeasePlace;
  #namespace: string | undefined;
  #endWatch: (() => void) | undefined;
  #isClosed = false;

  /** @param timeout of one answer, in ms */
  constructor(place: LeasePlace, timeout: number) {
    this.#place = place;
    this.#server = new ApiServer(place.serviceAccount, timeout);
  }

  /** All of them; `version` is that of the list, to watch it from there. */
  async list(): Promise<{ leases: Lease[]; version: string }> {
    const { body } = await this.#server.ask<{ metadata: { resourceVersion: string }; items: Lease[] }>(
      "GET",
      `${await this.#path()}?${this.#selector}`,
    );
    // The items of a list do not name their type.
    const leases = body.items.map((one) => ({ ...one, ...LEASE }));
    return { leases, version: body.metadata.resourceVersion };
  }

  async get(name: string): Promise<Lease | undefined> {
    const { status, body } = await this.#server.ask<Lease>("GET", await this.#path(name), undefined, [404]);
    return status === 404 ? undefined : body;
  }

  /** False if there is one of this name. */
  async create(lease: Lease): Promise<boolean> {
    const { status } = await this.#server.ask("POST", await this.#path(), lease, [409]);
    return status !== 409;
  }

  /** False if it has changed since it was read, or is gone. */
  async replace(lease: Lease): Promise<boolean> {
    const path = await this.#path(lease.metadata.name);
    const { status } = await this.#server.ask("PUT", path, lease, [404, 409]);
    return status !== 404 && status !== 409;
  }

  /** Watches from a version on, unless it does already. */
  async watch(version: string, onChange: (lease: Lease) => void): Promise<void> {
    const query = `${this.#selector}&watch=true&timeoutSeconds=300&resourceVersion=${version}`;
    const path = `${await this.#path()}?${query}`;
    if (this.#endWatch !== undefined || this.#isClosed) return;
    const end = this.#server.watch(
      path,
      (change) => {
        const { type, object } = change as { type: string; object: Lease };
        if (type !== "ERROR" && type !== "BOOKMARK") onChange(object);
      },
      () => {
        if (this.#endWatch === end) this.#endWatch = undefined;
      },
    );
    this.#endWatch = end;
  }

  /** `Kubernetes v1.30.1` */
  async version(): Promise<string> {
    const { body } = await this.#server.ask<{ gitVersion: string }>("GET", "/version");
    return `Kubernetes ${body.gitVersion}`;
  }

  /** The verbs that the service account may not use. */
  async missingRights(): Promise<string[]> {
    const namespace = await this.#findNamespace();
    const answers = await Promise.all(
      VERBS.map(async (verb) => {
        const resourceAttributes = { namespace, verb, group: "coordination.k8s.io", resource: "leases" };
        const { body } = await this.#server.ask<{ status: { allowed: boolean } }>(
          "POST",
          "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
          {
            apiVersion: "authorization.k8s.io/v1",
            kind: "SelfSubjectAccessReview",
            spec: { resourceAttributes },
          },
        );
        return body.status.allowed ? [] : [verb];
      }),
    );
    return answers.flat();
  }

  /** What is asked from now on goes over new connections. */
  reconnect(): void {
    this.#server.dropIdle();
  }

  close(): void {
    this.#isClosed = true;
    this.#endWatch?.();
    this.#server.close();
  }

  get #selector(): string {
    return `labelSelector=${encodeURIComponent(`${SERVICE_LABEL}=${labelOf(this.#place.service)}`)}`;
  }

  async #path(name?: string): Promise<string> {
    const namespace = encodeURIComponent(await this.#findNamespace());
    const all = `/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases`;
    return name === undefined ? all : `${all}/${name}`;
  }

  async #findNamespace(): Promise<string> {
    return (this.#namespace ??= this.#place.namespace ?? (await this.#server.namespace()));
  }
}

/** What a service account lacks, for people. */
export function describeMissing(verbs: readonly string[]): EngineProblem {
  return {
    check: "engine",
    what: `the service account may not ${verbs.join(", ")} leases`,
    why: "a role is acquired by writing its Lease object",
    fix: "give it a Role with these verbs: docs/kubernetes.md has the manifest",
  };
}

const LEASE = { apiVersion: "coordination.k8s.io/v1", kind: "Lease" } as const;

const VERBS = ["get", "list", "watch", "create", "update"] as const;
