/** The secrets of a connection that its move needs, by Node's labels of the key log. */
type SecretLabel = "CLIENT_TRAFFIC_SECRET_0" | "SERVER_TRAFFIC_SECRET_0" | "EXPORTER_SECRET";

/**
 * The secrets of one connection, in the digits in which Node logs them: they are decoded at the move, and most connections never
 * move. Secrets are never a string, which could not be erased.
 */
export class LoggedSecrets {
  /** All in one piece. */
  readonly #digits = Buffer.allocUnsafe(LABELS.length * LONGEST);
  /** Digits of each. */
  readonly #lengths = [0, 0, 0];

  /** Keeps the secret of a line of the key log, if it is one of these. */
  note(line: Buffer): void {
    const which = LABELS.findIndex((label) => isLabeled(line, label));
    if (which < 0) return;
    // Behind the label is the number by which the client has begun its handshake.
    const from = LABELS[which]!.length + 1 + RANDOM + 1;
    const to = line.length - 1;
    if (line[from - 1] !== SPACE || to - from > LONGEST) return;
    line.copy(this.#digits, which * LONGEST, from, to);
    this.#lengths[which] = to - from;
  }

  /** Whether it has all of them. */
  get isComplete(): boolean {
    return this.#lengths.every((length) => length > 0);
  }

  /** A copy, which the caller erases. */
  get(label: SecretLabel): Buffer {
    const which = NAMES.indexOf(label);
    const secret = Buffer.allocUnsafe(this.#lengths[which]! >> 1);
    const from = which * LONGEST;
    for (let n = 0; n < secret.length; n++) {
      secret[n] = 16 * digitOf(this.#digits[from + 2 * n]!) + digitOf(this.#digits[from + 2 * n + 1]!);
    }
    return secret;
  }

  erase(): void {
    this.#digits.fill(0);
    this.#lengths.fill(0);
  }
}

/** Whether a line of the key log has this label. */
export function isLabeled(line: Buffer, label: Buffer): boolean {
  // Most labels differ in the first or the eighth character: to compare them by a call would take longer.
  for (let n = 0; n < label.length; n++) if (line[n] !== label[n]) return false;
  return line[label.length] === SPACE;
}

/** Of a code of `0` to `9`, or of a small letter. */
function digitOf(code: number): number {
  return code < 0x3a ? code - 0x30 : code - 0x57;
}

const NAMES: readonly SecretLabel[] = [
  "CLIENT_TRAFFIC_SECRET_0",
  "SERVER_TRAFFIC_SECRET_0",
  "EXPORTER_SECRET",
];
const LABELS = NAMES.map((name) => Buffer.from(name));

/** The first secret that a server can know only when it has the whole ClientHello. */
export const SERVER_HANDSHAKE = Buffer.from("SERVER_HANDSHAKE_TRAFFIC_SECRET");
export const CLIENT_TRAFFIC = Buffer.from("CLIENT_TRAFFIC_SECRET_0");

/** Digits of a secret of SHA-384, and of a client's random number. */
const LONGEST = 96;
const RANDOM = 64;

const SPACE = 32;
