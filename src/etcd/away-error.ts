import { HandoverError, reasonOf } from "../errors.js";
import type { AmbiguousError } from "../hosts/ambiguous-error.js";

/** etcd has not done what it was asked, or is not known to have. */
export class AwayError extends HandoverError implements AmbiguousError {
  /** Whether it may have been done. */
  isAmbiguous: boolean;
  /** In etcd's words, or those of the network. */
  readonly reason: string;
  /** The code that etcd has answered with, as gRPC numbers it. */
  readonly status: number | undefined;

  constructor(
    reason: string,
    isAmbiguous: boolean,
    { status, words = reason, cause }: { status?: number; words?: string; cause?: unknown } = {},
  ) {
    super("ERR_EXCHANGE", `etcd cannot be asked: ${words}`, { cause });
    this.isAmbiguous = isAmbiguous;
    this.reason = reason;
    this.status = status;
  }
}

/** @param isConnected whether the question may have arrived */
export function unreachable(endpoint: URL, error: unknown, isConnected: boolean): AwayError {
  const reason = reasonOf(error);
  const isRefused = /certificate|self.signed|SSL|TLS|EPROTO/i.test(reason);
  const hint = isRefused && endpoint.protocol === "https:" ? '; see the option "tls"' : "";
  return new AwayError(reason, isConnected, { words: `${endpoint.origin}: ${reason}${hint}`, cause: error });
}

/** The error of an answer that refuses, or that is not one of etcd. */
export function refusalOf(endpoint: URL, http: number, answer: string, user: string | undefined): AwayError {
  let reason = answer.trim();
  let status: number | undefined;
  try {
    const { message, error, code } = JSON.parse(answer) as {
      message?: string;
      error?: string;
      code?: number;
    };
    reason = message ?? error ?? reason;
    status = code;
  } catch {
    // It is not of etcd's gateway.
  }
  const words = wordsFor(reason, http, user) ?? reason;
  const isAmbiguous = status === undefined ? http >= 500 : UNKNOWN_OUTCOME.has(status);
  return new AwayError(reason, isAmbiguous, {
    words: `${endpoint.origin}: ${words}`,
    ...(status === undefined ? {} : { status }),
  });
}

/** Whether another endpoint may answer better. */
export function isElsewhere(error: unknown): boolean {
  return error instanceof AwayError && (error.status === undefined || UNKNOWN_OUTCOME.has(error.status));
}

/** Whether another token is needed. */
export function isUnauthorized(error: unknown): boolean {
  return error instanceof AwayError && (error.status === 16 || /auth store is old/.test(error.reason));
}

function wordsFor(reason: string, http: number, user: string | undefined): string | undefined {
  if (/invalid user ID or password/.test(reason))
    return `the user "${user}" is unknown, or its password is wrong`;
  if (/user name is empty/.test(reason))
    return 'it asks for a user: see the options "username" and "password"';
  if (/authentication is not enabled/.test(reason))
    return 'it knows no users: leave "username" and "password" out';
  if (/permission denied/.test(reason))
    return `the user "${user}" may not read and write the keys of the service`;
  if (/database space exceeded/.test(reason))
    return `its space is used up (${reason}): raise --quota-backend-bytes of etcd, or compact and defragment it, and disarm its alarm`;
  if (/larger than max|request is too large/.test(reason))
    return `the request is too large (${reason}): raise --max-request-bytes of etcd, or lower "maxBody"`;
  if (/HTTP request to an HTTPS server/.test(reason)) return "it speaks TLS: the endpoint begins with https:";
  if (http === 404 && /^(?:404 )?(?:page )?not found$/i.test(reason))
    return "it has no JSON gateway of version 3: etcd 3.4 is needed, with --enable-grpc-gateway";
  return undefined;
}

/** Codes of gRPC: canceled, unknown, deadline exceeded, aborted, internal, unavailable, data loss. */
const UNKNOWN_OUTCOME: ReadonlySet<number> = new Set([1, 2, 4, 10, 13, 14, 15]);
