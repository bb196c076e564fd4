import { Client } from "./client.js";
import { Service, type Line, type StartOptions } from "./service.js";
import { brief } from "./steps.js";

/** `moving.js`, and clients that keep their connections. */
export interface Moving {
  service: Service;
  port: number;
}

export async function startMoving(settings: object = {}, options: StartOptions = {}): Promise<Moving> {
  const service = Service.start("moving.js", { ...options, settings: { ...brief, ...settings } });
  const { port } = await service.until("accepting");
  return { service, port: port as number };
}

export async function openAll(port: number, count: number): Promise<Client[]> {
  return Promise.all(Array.from({ length: count }, () => Client.open(port)));
}

/** Who answers a request: the generation, and what it says else. */
export async function ask(client: Client, path = "/"): Promise<string> {
  client.request(path);
  return answer(client);
}

/** The body of the next response, of which the connection is kept. */
export async function answer(client: Client): Promise<string> {
  const { head, body } = await response(client);
  if (/^connection: close/im.test(head)) throw new Error(`the connection was to be kept: ${head}`);
  return body;
}

export async function response(client: Client): Promise<{ head: string; body: string }> {
  const head = await client.until(/\r\n\r\n/);
  const length = /^content-length: (\d+)/im.exec(head)?.[1];
  if (length !== undefined) {
    await client.receives(Number(length));
    return { head, body: await client.until(new RegExp(`^[^]{${length}}`)) };
  }
  if (!/^transfer-encoding: chunked/im.test(head)) return { head, body: "" };
  return { head, body: await client.until(/^0\r\n[^]*?\r\n/m) };
}

/** Asks the newest generation to upgrade; the old one may still drain when the next one accepts. */
export async function replace(service: Service): Promise<Line> {
  const { pid, generation } = service.lines.findLast(({ event }) => event === "accepting")!;
  process.kill(pid, "SIGHUP");
  return service.until("accepting", { generation: generation + 1 });
}

/** The same, as soon as the newest generation is off probation. */
export async function replaceSoon(service: Service): Promise<Line> {
  for (;;) {
    const from = service.lines.length;
    const refused = service.until("failed", { code: "ERR_ON_PROBATION" }, from);
    const next = await Promise.race([replace(service), refused]);
    if (next.event === "accepting") return next;
  }
}

/** What a generation says of its connections when it leaves. */
export async function departures(service: Service, generation = 0): Promise<Line> {
  return service.until("exit", { generation });
}
