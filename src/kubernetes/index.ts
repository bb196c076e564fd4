/**
 * `handover/kubernetes`: roles of one service on several hosts, over Lease objects of a Kubernetes cluster.
 *
 * @module
 */
import type { HostExchange } from "../exchange/hosts.js";
import { RoleHosts } from "../hosts/role-hosts.js";
import { readService } from "../hosts/service-name.js";
import { atCaller } from "../platform/at-caller.js";
import { milliseconds, refuseUnknown, text, wrongOption } from "../util/validation.js";
import { LeaseEngine } from "./lease-engine.js";

export type { HostExchange } from "../exchange/hosts.js";

/** Options of {@link kubernetesLease}. */
export interface KubernetesOptions {
  /** The name of the service: processes with the same name and namespace share roles. */
  service: string;
  /** The namespace of the Lease objects. Default: that of the pod. */
  namespace?: string;
  /**
   * ms after which others may hold what a process has that does not answer. It stops itself after two thirds of it. Default
   * 15 000; at least 1 000, in whole seconds.
   */
  lease?: number;
  /** The directory with `token`, `ca.crt` and `namespace`. Default: `/var/run/secrets/kubernetes.io/serviceaccount`. */
  serviceAccount?: string;
}

/**
 * The option `exchange` of an `Upgrader` in a pod, for roles only. Nothing is connected before `ready()`.
 *
 * @throws {HandoverError} `ERR_OPTION`
 */
export function kubernetesLease(options: KubernetesOptions): HostExchange {
  return atCaller({ kubernetesLease }, "kubernetesLease", () => {
    refuseUnknown("kubernetesLease()", options, KNOWN);
    const { lease = 15_000, serviceAccount = SERVICE_ACCOUNT } = options;
    if (milliseconds("lease", lease, SHORTEST_LEASE) % 1_000 !== 0)
      throw wrongOption("lease", "whole seconds, in milliseconds", lease);
    const settings = {
      service: readService(options.service),
      lease,
      namespace: text("namespace", options.namespace),
      serviceAccount: text("serviceAccount", serviceAccount)!,
    };
    return { engine: "kubernetes", join: (host) => new RoleHosts(new LeaseEngine(settings), host) };
  });
}

const KNOWN = ["service", "namespace", "lease", "serviceAccount"] satisfies (keyof KubernetesOptions)[];

/** ms */
const SHORTEST_LEASE = 1_000;

const SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount";
