/** A cipher suite of TLS 1.3. */
export interface CipherSuite {
  /** Node's name of the cipher. */
  readonly cipher: "aes-128-gcm" | "aes-256-gcm" | "chacha20-poly1305";
  /** Bytes of a key. */
  readonly keyLength: number;
  readonly hash: "sha256" | "sha384";
  /** Bytes of a secret, and of a Finished message's body. */
  readonly hashLength: number;
}

const SUITES: ReadonlyMap<string, CipherSuite> = new Map([
  ["TLS_AES_128_GCM_SHA256", { cipher: "aes-128-gcm", keyLength: 16, hash: "sha256", hashLength: 32 }],
  ["TLS_AES_256_GCM_SHA384", { cipher: "aes-256-gcm", keyLength: 32, hash: "sha384", hashLength: 48 }],
  [
    "TLS_CHACHA20_POLY1305_SHA256",
    { cipher: "chacha20-poly1305", keyLength: 32, hash: "sha256", hashLength: 32 },
  ],
]);

/** The suite of this name in the standards; undefined for one whose connections do not move. */
export function suiteOf(standardName: string): CipherSuite | undefined {
  return SUITES.get(standardName);
}
