import { onTestFinished } from "vitest";
import { Channel } from "../../dist/channel/channel.js";
import { MAX_SIZE, type Message } from "../../dist/channel/messages.js";
import { encode } from "../../dist/channel/wire-format.js";
import { LocalExchange } from "../../dist/exchange/local-exchange.js";
import type { Pair } from "./exchange-suite.js";

export interface LocalPair extends Pair {
  owner: LocalExchange;
  taker: LocalExchange;
  channels: [Channel, Channel];
}

/**
 * Two exchanges over a real channel. `between` sees what the taker's side hears, and may change it; `sending` what the
 * owner's side is about to send, and may throw. Neither sends a message of more than `maxSize` bytes. `nextFence` is for what
 * is taken.
 */
export function openPair(
  between = (packet: Packet): Packet | undefined => packet,
  sending: (message: Message) => void = () => {},
  maxSize = MAX_SIZE,
  nextFence = (): number => ++fence,
): LocalPair {
  const [left, fd] = Channel.pair();
  const right = new Channel(fd);
  const owner = connectTo(left, (packet) => packet, sending, maxSize, nextFence);
  const taker = connectTo(right, between, () => {}, maxSize, nextFence);
  onTestFinished(() => [left, right].forEach((channel) => channel.close()));
  const keep = (): void => owner.confirm();
  return { owner, taker, channels: [left, right], keep, endTaker: () => right.close() };
}

let fence = 0;

export type Packet = [Message, number[], Uint8Array];

function connectTo(
  channel: Channel,
  between: (packet: Packet) => Packet | undefined,
  sending: (message: Message) => void,
  maxSize: number,
  nextFence: () => number,
): LocalExchange {
  const send = (...message: Parameters<Channel["send"]>): boolean => {
    sending(message[0]);
    encode(message[0], message[2], maxSize);
    return channel.send(...message);
  };
  const exchange = new LocalExchange({ send, maxSize }, { generation: 1, pid: 1 }, nextFence);
  channel.listen({
    message: (message, fds, body) => {
      const packet = between([message, fds, body]);
      if (packet !== undefined) exchange.receive(...packet);
    },
    end: () => exchange.end(),
  });
  return exchange;
}
