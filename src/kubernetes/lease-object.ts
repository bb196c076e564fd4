import { createHash } from "node:crypto";
import { hostname } from "node:os";

/** A Lease of `coordination.k8s.io/v1`, as far as it is used. */
export interface Lease {
  readonly apiVersion: "coordination.k8s.io/v1";
  readonly kind: "Lease";
  readonly metadata: {
    readonly name: string;
    readonly uid?: string;
    readonly resourceVersion?: string;
    readonly labels?: Record<string, string>;
    readonly annotations?: Record<string, string>;
  };
  readonly spec: {
    readonly holderIdentity?: string | null;
    readonly leaseDurationSeconds?: number | null;
    readonly acquireTime?: string | null;
    readonly renewTime?: string | null;
    readonly leaseTransitions?: number | null;
  };
}

/** Who holds a Lease, and what it leaves for the next one. */
interface Hold {
  readonly seat: string;
  /** The process that beats for the seat. */
  readonly holder: string;
  /** The highest fence that is known. */
  readonly fence: number;
  /** in ms */
  readonly lease: number;
}

export const SERVICE_LABEL = "handover/service";
const ROLE = "handover/role";
const HOLDER = "handover/holder";
const FENCE = "handover/fence";

/** The name of the object of a role: a domain name, and unlike that of every other service and role. */
export function leaseName(service: string, role: string): string {
  const isPlain = [service, role].every((one) => /^[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?$/.test(one));
  return isPlain ? `${service}.${role}` : `handover-${hash(JSON.stringify([service, role]))}`;
}

export function labelOf(service: string): string {
  return /^[A-Za-z0-9](?:[-\w.]{0,61}[A-Za-z0-9])?$/.test(service) ? service : hash(service);
}

function hash(name: string): string {
  return createHash("sha256").update(name).digest("hex").slice(0, 40);
}

export function isOfService({ metadata }: Lease, service: string): boolean {
  return metadata.labels?.[SERVICE_LABEL] === labelOf(service);
}

export function isHeldBy({ spec }: Lease, seat: string): boolean {
  return spec.holderIdentity?.endsWith(`_${seat}`) === true;
}

export function isFree({ spec }: Lease): boolean {
  return (spec.holderIdentity ?? "") === "";
}

/** The process that has written it last. */
export function holderOf({ metadata }: Lease): string | undefined {
  return metadata.annotations?.[HOLDER];
}

/** The highest fence that its holders are known to have had; 0 for one that is not a number. */
export function fenceOf({ metadata }: Lease): number {
  const fence = Number(metadata.annotations?.[FENCE]);
  return Number.isSafeInteger(fence) ? fence : 0;
}

/** A Lease that no process has held so far. */
export function newLease(service: string, role: string): Lease {
  return {
    apiVersion: "coordination.k8s.io/v1",
    kind: "Lease",
    metadata: {
      name: leaseName(service, role),
      labels: { [SERVICE_LABEL]: labelOf(service) },
      annotations: { [ROLE]: role },
    },
    spec: {},
  };
}

/** The same Lease with another holder, or renewed by the one that it has. */
export function withHolder(lease: Lease, { seat, holder, fence, lease: duration }: Hold): Lease {
  const now = microTime();
  const isRenewed = isHeldBy(lease, seat);
  const { acquireTime, leaseTransitions } = lease.spec;
  const isNew = leaseTransitions === undefined || leaseTransitions === null;
  return {
    ...lease,
    metadata: withAnnotations(lease, { [HOLDER]: holder, [FENCE]: String(Math.max(fence, fenceOf(lease))) }),
    spec: {
      ...lease.spec,
      // The host is the name of the pod, for people.
      holderIdentity: isRenewed ? lease.spec.holderIdentity! : `${hostname()}_${seat}`,
      leaseDurationSeconds: duration / 1_000,
      acquireTime: isRenewed ? (acquireTime ?? now) : now,
      renewTime: now,
      leaseTransitions: isNew ? 0 : leaseTransitions + (isRenewed ? 0 : 1),
    },
  };
}

/** The same Lease without a holder. */
export function released(lease: Lease, fence: number): Lease {
  return {
    ...lease,
    metadata: withAnnotations(lease, { [FENCE]: String(Math.max(fence, fenceOf(lease))) }),
    spec: { ...lease.spec, holderIdentity: "", renewTime: microTime() },
  };
}

function withAnnotations({ metadata }: Lease, annotations: Record<string, string>): Lease["metadata"] {
  return { ...metadata, annotations: { ...metadata.annotations, ...annotations } };
}

/** Now, in the form that Kubernetes requires: with six digits of a second. It is for people: nothing is decided by it. */
function microTime(): string {
  return new Date().toISOString().replace("Z", "000Z");
}
