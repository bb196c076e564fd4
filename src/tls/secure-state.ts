import { suiteOf, type CipherSuite } from "./cipher-suites.js";
import { splitHead, withHead } from "../util/head.js";
import type { TrafficState } from "./record-keys.js";

/** What a program can ask a TLS connection for, without any secret. */
export interface SecureFacts {
  readonly cipher: { name: string; standardName: string; version: string };
  readonly isReused: boolean;
  readonly alpnProtocol: string | false | null;
  readonly servername: string | false;
  readonly authorized: boolean;
  readonly authorizationError: string | null;
}

/** Where the record layer of a TLS 1.3 connection stands, and what its socket says of it. */
export interface SecureState {
  readonly suite: CipherSuite;
  /** From the client. */
  readonly receiving: TrafficState;
  readonly sending: TrafficState;
  readonly exporter: Buffer | undefined;
  /** Bytes of plaintext in one sent record, at most. */
  readonly largestRecord: number;
  /** The same, as far as the client takes them. */
  readonly recordLimit: number;
  /** The beginning of a record, as it was received. */
  readonly halfRecord: Buffer | undefined;
  /** Whether the client has asked for new keys of this side, and has not got them. */
  readonly owesUpdate: boolean;
  readonly facts: SecureFacts;
  /** The client's certificate, and those above it: DER. */
  readonly peerCertificates: readonly Buffer[];
}

interface Head {
  readonly sequences: readonly [number, number];
  readonly largestRecord: number;
  readonly recordLimit: number;
  readonly owesUpdate: boolean;
  readonly facts: SecureFacts;
  /** Of what follows the head. */
  readonly lengths: readonly number[];
}

/** As bytes, with copies of the secrets. Secrets are never text: a string cannot be erased. */
export function encodeSecure(state: SecureState): Buffer {
  const {
    receiving,
    sending,
    exporter,
    largestRecord,
    recordLimit,
    halfRecord,
    owesUpdate,
    facts,
    peerCertificates,
  } = state;
  const parts = [
    receiving.secret,
    sending.secret,
    exporter ?? NOTHING,
    halfRecord ?? NOTHING,
    ...peerCertificates,
  ];
  const sequences = [receiving.sequence, sending.sequence] as const;
  const lengths = parts.map(({ length }) => length);
  const head: Head = { sequences, largestRecord, recordLimit, owesUpdate, facts, lengths };
  return withHead(head, parts);
}

/**
 * Copies the secrets out of the bytes of {@link encodeSecure}.
 *
 * @throws {Error} the bytes are none of these
 */
export function decodeSecure(bytes: Uint8Array): SecureState {
  const { head, rest } = splitHead(bytes);
  const { sequences, largestRecord, recordLimit, owesUpdate, facts, lengths } = head as Head;
  const suite = suiteOf(facts.cipher.standardName);
  if (suite === undefined || lengths[0] !== suite.hashLength || lengths[1] !== suite.hashLength) {
    throw new Error("the state of a TLS connection is damaged");
  }
  let at = 0;
  const parts = lengths.map((length) => Buffer.from(rest.subarray(at, (at += length))));
  const [received, sent, exporter, halfRecord, ...peerCertificates] = parts as [
    Buffer,
    Buffer,
    Buffer,
    Buffer,
    ...Buffer[],
  ];
  return {
    suite,
    receiving: { secret: received, sequence: sequences[0] },
    sending: { secret: sent, sequence: sequences[1] },
    exporter: exporter.length > 0 ? exporter : undefined,
    largestRecord,
    recordLimit,
    halfRecord: halfRecord.length > 0 ? halfRecord : undefined,
    owesUpdate,
    facts,
    peerCertificates,
  };
}

const NOTHING = Buffer.alloc(0);
