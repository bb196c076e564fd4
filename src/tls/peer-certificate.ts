import type { X509Certificate } from "node:crypto";
import type { DetailedPeerCertificate, PeerCertificate, TLSSocket } from "node:tls";
import { builtins } from "../platform/builtins.js";

/** The client's certificate, and those above it, as DER. */
export function chainOf(socket: TLSSocket): Buffer[] {
  const chain: Buffer[] = [];
  let one = socket.getPeerCertificate(true) as DetailedPeerCertificate | undefined;
  while (one?.raw !== undefined && chain.length < LONGEST) {
    chain.push(one.raw);
    if (one.issuerCertificate === one) break;
    one = one.issuerCertificate;
  }
  return chain;
}

/** As `tls.TLSSocket.getPeerCertificate()` returns it: an empty object without one. */
export function peerCertificate(chain: readonly Buffer[], detailed: boolean): PeerCertificate {
  const all = (detailed ? chain : chain.slice(0, 1)).map((raw) => new builtins.crypto.X509Certificate(raw));
  if (all.length === 0) return {} as PeerCertificate;
  const legacy = all.map((one) => one.toLegacyObject() as unknown as DetailedPeerCertificate);
  if (detailed) for (const [n, one] of legacy.entries()) linkTo(one, legacy[n + 1], all[n]!);
  return legacy[0]!;
}

/** The last certificate of a chain is its own issuer, if that is so. */
function linkTo(
  one: DetailedPeerCertificate,
  issuer: DetailedPeerCertificate | undefined,
  certificate: X509Certificate,
): void {
  if (issuer !== undefined) one.issuerCertificate = issuer;
  else if (certificate.issuer === certificate.subject) one.issuerCertificate = one;
}

/** Certificates of a chain, at most. */
const LONGEST = 16;
