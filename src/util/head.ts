/** JSON and bytes in one piece. */
export function withHead(head: unknown, parts: readonly Uint8Array[]): Buffer {
  const json = Buffer.from(JSON.stringify(head));
  const length = Buffer.alloc(LENGTH);
  length.writeUInt32BE(json.length);
  return Buffer.concat([length, json, ...parts]);
}

/** Undoes {@link withHead}. */
export function splitHead(bytes: Uint8Array): { head: unknown; rest: Uint8Array } {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const end = LENGTH + view.readUInt32BE(0);
  return { head: JSON.parse(view.toString("utf8", LENGTH, end)), rest: view.subarray(end) };
}

/** Bytes of the length of the JSON. */
const LENGTH = 4;
