// In JavaScript: the types of the package are there only where the frameworks are installed.
import { randomUUID } from "node:crypto";
import { credentials, makeGenericClientConstructor } from "@grpc/grpc-js";

const toBytes = (text) => Buffer.from(text);
const unary = { requestStream: false, responseStream: false };
const forms = {
  requestSerialize: toBytes,
  requestDeserialize: String,
  responseSerialize: toBytes,
  responseDeserialize: String,
};
const Words = makeGenericClientConstructor({ say: { path: "/Words/Say", ...unary, ...forms } }, "Words");

/** Calls over one channel, or each time over a new one. */
export class GrpcClient {
  #address;
  #keeps;
  #words;

  constructor(port, keeps = true) {
    this.#address = `127.0.0.1:${port}`;
    this.#keeps = keeps;
  }

  /** @returns {Promise<string>} */
  async ask() {
    if (!this.#keeps) this.close();
    this.#words ??= new Words(this.#address, credentials.createInsecure(), {
      // Channels of one address would share a connection.
      "grpc.use_local_subchannel_pool": 1,
    });
    const text = randomUUID();
    const answer = await new Promise((resolve, reject) => {
      this.#words.say(text, (error, heard) => (error === null ? resolve(heard) : reject(error)));
    });
    if (!answer.startsWith(text)) throw new Error(`was answered ${answer}`);
    return answer;
  }

  /** @returns {void} */
  close() {
    this.#words?.close();
    this.#words = undefined;
  }
}
