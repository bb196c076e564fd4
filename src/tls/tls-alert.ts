/** The alerts of RFC 8446, 6, that are used. */
export const ALERTS = {
  closeNotify: 0,
  unexpectedMessage: 10,
  badRecordMac: 20,
  recordOverflow: 22,
  decodeError: 50,
  userCanceled: 90,
} as const;

/** A peer broke the protocol: it is sent this alert, and the connection ends. `EPROTO` is what Node says in this case. */
export class TlsAlert extends Error {
  readonly code = "EPROTO";
  readonly description: number;

  constructor(description: number, message: string) {
    super(message);
    this.description = description;
  }
}
