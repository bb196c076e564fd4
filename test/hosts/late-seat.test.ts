import { expect, onTestFinished, test } from "vitest";
import { FencingTokens } from "../../dist/exchange/fencing.js";
import { ENGINES, startEngine } from "../support/engines.js";
import { joinHosts } from "../support/hosts.js";
import { openPair, type Packet } from "../support/local-pair.js";
import { StallingProxy } from "../support/stalling-proxy.js";

const service = "late-seat";
const PID = 1;

test.each(ENGINES)(
  "over %s a process that is replaced before it has its seat says that it takes nothing, and its successor takes what it gives",
  async (engine) => {
    const server = await startEngine(engine);
    onTestFinished(async () => server.remove());
    const proxy = await StallingProxy.start(server.port);
    onTestFinished(() => proxy.close());
    const a = server.exchange({ service, at: proxy.port, lease: 60_000 }).join({
      self: { generation: 0, pid: PID },
      address: undefined,
      release: undefined,
      fences: new FencingTokens(),
      onFailure: () => {},
    }).state!;
    onTestFinished(async () => a.leave());
    a.exchange.subscribe("unit", "room", () => ({ code: "ERR_STOPPED" }));
    await a.check();
    proxy.stall();
    a.enter(undefined);
    const b = joinHosts(server.exchange({ service, lease: 60_000 }), undefined, new Promise(() => {}));
    await b.hosts.check();
    const held: Packet[] = [];
    const { owner, taker } = openPair((packet) => void held.push(packet));
    b.hosts.subscribeTo(taker);
    await expect.poll(() => owner.peers("seat")).toHaveLength(1);
    const given = a.giveTo(owner);
    proxy.goOn();
    await expect.poll(() => held).toHaveLength(1);
    await expect.poll(async () => server.seats(service)).toMatchObject([{ pid: PID, draining: true }]);
    taker.receive(...held[0]!);
    expect(await given).toBe(true);
    await expect
      .poll(async () => server.seats(service))
      .toMatchObject([{ pid: b.name().pid, draining: false }]);
  },
);
