// A member of a room of examples/hosts-chat.js. It goes where its room goes, and says a thing again that got lost on the way.
import { WebSocket } from "ws";

export class ChatMember {
  /** What was said in the room. */
  heard = [];
  /** How many things it has said. */
  said = 0;
  #name;
  #room;
  #address;
  #onMove;
  #onHear;
  #findHost;
  #socket;
  /** What it says, until it hears it. */
  #pending;
  /** Where it was last, and until when. */
  #last;
  #isLeaving = false;

  /**
   * @param {string} address of any host
   * @param {() => string} findHost the address of a host that accepts, as a load balancer would choose it
   * @param {(move: { from: string, to: string, gap: number }) => void} onMove the room is on another host; `gap` is the time, in
   *   ms, in which this member was not in it
   * @param {() => void} onHear something was said
   */
  constructor(name, room, address, findHost, onMove, onHear) {
    this.#name = name;
    this.#room = room;
    this.#address = address;
    this.#findHost = findHost;
    this.#onMove = onMove;
    this.#onHear = onHear;
    this.#connect();
  }

  /** Of the host that has the room. */
  get address() {
    return this.#address;
  }

  /** Says one thing. Resolves when it hears it. */
  async speak() {
    const text = `${this.#name} says ${++this.said}`;
    await new Promise((resolve) => {
      this.#pending = { text, resolve };
      if (this.#last?.at === undefined && this.#last !== undefined) this.#socket.send(text);
    });
  }

  leave() {
    this.#isLeaving = true;
    this.#socket.close();
  }

  #connect() {
    const socket = new WebSocket(`ws://${this.#address}/${this.#room}`);
    this.#socket = socket;
    // The first message is all that was said so far.
    socket.once("message", (/** @type {Buffer} */ history) => {
      this.#enter(history.toString());
      socket.on("message", (/** @type {Buffer} */ text) => this.#hear(text.toString()));
    });
    socket.on("error", () => {});
    socket.on("close", (code, reason) => this.#leftBy(code, reason.toString()));
  }

  #enter(history) {
    this.heard = [];
    for (const text of history.split("\n").filter(Boolean)) this.#hear(text);
    const { address, at } = this.#last ?? {};
    this.#last = { address: this.#address };
    if (at !== undefined && address !== this.#address)
      this.#onMove({ from: address, to: this.#address, gap: performance.now() - at });
    if (this.#pending !== undefined) this.#socket.send(this.#pending.text);
  }

  #hear(text) {
    this.heard.push(text);
    if (text === this.#pending?.text) {
      this.#pending.resolve();
      this.#pending = undefined;
    }
    this.#onHear();
  }

  #leftBy(code, address) {
    if (this.#isLeaving) return;
    if (this.#last !== undefined) this.#last.at ??= performance.now();
    // 1012: the room is at the address. Without one it is on its way, and any host knows where it is then.
    const isElsewhere = code === 1012 && address !== "";
    this.#address = isElsewhere ? address : this.#findHost();
    setTimeout(() => this.#connect(), isElsewhere ? 0 : RETRY);
  }
}

/** ms */
const RETRY = 50;
