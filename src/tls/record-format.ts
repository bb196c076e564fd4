/** Bytes before the ciphertext of a record, and of the tag at its end. */
export const HEADER = 5;
export const TAG = 16;

/** Bytes that a record takes besides its plaintext: header, type and tag. */
export const OVERHEAD = HEADER + 1 + TAG;

/** Bytes of plaintext in one record, at most. */
export const LARGEST = 16_384;

/** The types of records. The outer type of every encrypted one is that of data. */
export const [ALERT, HANDSHAKE, DATA] = [21, 22, 23];
