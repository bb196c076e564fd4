/** The bodies of the responses on one connection, in their order. Anything but a 200 that is kept alive fails. */
export class ResponseParser {
  #text = "";
  #waiting;

  push(text) {
    this.#text += text;
    this.#settle();
  }

  /** The next body. */
  next() {
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
      this.#settle();
    });
  }

  #settle() {
    if (this.#waiting === undefined) return;
    const { resolve, reject } = this.#waiting;
    try {
      const body = this.#take();
      if (body === undefined) return;
      this.#waiting = undefined;
      resolve(body);
    } catch (error) {
      this.#waiting = undefined;
      reject(error);
    }
  }

  #take() {
    const end = this.#text.indexOf("\r\n\r\n");
    if (end < 0) return undefined;
    const head = this.#text.slice(0, end);
    if (!head.startsWith("HTTP/1.1 200 ") || /connection: close/i.test(head)) throw new Error(`got ${head}`);
    const length = /^content-length: (\d+)$/im.exec(head)?.[1];
    const rest = this.#text.slice(end + 4);
    const taken = length === undefined ? unchunk(rest) : cut(rest, Number(length));
    if (taken === undefined) return undefined;
    this.#text = taken.rest;
    return taken.body;
  }
}

function cut(text, length) {
  return text.length < length ? undefined : { body: text.slice(0, length), rest: text.slice(length) };
}

function unchunk(text) {
  let [body, at] = ["", 0];
  for (;;) {
    const line = text.indexOf("\r\n", at);
    if (line < 0) return undefined;
    const size = parseInt(text.slice(at, line), 16);
    const end = line + 2 + size;
    if (text.length < end + 2) return undefined;
    if (Number.isNaN(size) || text.slice(end, end + 2) !== "\r\n") throw new Error(`got a chunk of ${size}`);
    if (size === 0) return { body, rest: text.slice(end + 2) };
    body += text.slice(line + 2, end);
    at = end + 2;
  }
}
