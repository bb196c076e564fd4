// A rolling deploy, live: npm run example:hosts. It starts a PostgreSQL in a temporary directory and two hosts of
// examples/hosts-chat.js, lets members chat in four rooms, and replaces the hosts one by one. Each new host starts before an
// old one is told to stop. Exits with 1 if a member missed something that was said.
import { spawn } from "node:child_process";
import { EventEmitter, once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { migrate } from "handover/postgres";
import { ChatMember } from "./chat-member.js";
import { freePort, startPostgres } from "./temporary-postgres.js";

const ROOMS = ["lobby", "garden", "attic", "cellar"];
const isColored = process.stdout.isTTY && !process.env.NO_COLOR;
const paint = (code, text) => (isColored ? `\u001b[${code}m${text}\u001b[39m` : text);
const print = (text) => process.stdout.write(`${text}\n`);

/** The hosts that run, by their addresses. */
const hosts = new Map();
const newest = () => [...hosts.keys()].at(-1);
const nameOf = (address) => paint(36, hosts.get(address)?.name ?? address);

/** Emits `heard` whenever a member has heard something. */
const chat = new EventEmitter();
const onHear = () => chat.emit("heard");

async function startHost(name, release, database) {
  const port = await freePort();
  const address = `127.0.0.1:${port}`;
  const program = fileURLToPath(new URL("hosts-chat.js", import.meta.url));
  const env = { ...process.env, DATABASE: database, PORT: String(port), HANDOVER_RELEASE: release };
  const child = spawn(process.execPath, [program], { env, stdio: ["ignore", "pipe", "inherit"] });
  const host = { name, address, child, exited: once(child, "exit") };
  hosts.set(address, host);
  for await (const line of createInterface({ input: child.stdout })) if (line.includes("chats on")) break;
  if (child.exitCode !== null) throw new Error(`host ${name} did not start`);
  child.stdout.resume();
  print(`host ${nameOf(address)} of release ${release} chats on ${address}`);
  return host;
}

async function stopHost({ address, child, exited }) {
  print(`host ${nameOf(address)} is told to stop`);
  child.kill("SIGTERM");
  await exited;
  print(`host ${nameOf(address)} has left`);
}

/** Waits until `isSo` is true, which it can become when a member hears something, for as long as a deploy may take. */
async function until(isSo, what) {
  const signal = AbortSignal.timeout(LONGEST_WAIT);
  try {
    while (!isSo()) await once(chat, "heard", { signal });
  } catch (cause) {
    throw new Error(`in vain waited for ${what}`, { cause });
  }
}

/** ms */
const LONGEST_WAIT = 60_000;

/** One room with two members, who talk all the time. It begins on the first host; the other one says where it is. */
async function openRoom(room, first, second) {
  const onMove = ({ from, to, gap }) => {
    print(
      `  room ${paint(33, room)}: ${nameOf(from)} → ${nameOf(to)}, a member was ${gap.toFixed(0)} ms without it`,
    );
  };
  const members = [new ChatMember(`${room}-0`, room, first.address, newest, onMove, onHear)];
  await members[0].speak();
  members.push(new ChatMember(`${room}-1`, room, second.address, newest, onMove, onHear));
  const over = new AbortController();
  const talking = members.map(async (member) => {
    while (!over.signal.aborted) {
      await member.speak();
      await new Promise((resolve) => setTimeout(resolve, PAUSE));
    }
  });
  const end = async () => {
    over.abort();
    await Promise.all(talking);
    const said = members.reduce((sum, one) => sum + one.said, 0);
    await until(() => members.every(({ heard }) => heard.length >= said), `all that was said in ${room}`);
    for (const member of members) member.leave();
    const [one, other] = members.map(({ heard }) => heard.join("\n"));
    return { said, isWhole: one === other && members[0].heard.length === said };
  };
  return { room, members, end };
}

/** ms between two things that a member says. */
const PAUSE = 5;

async function show(database) {
  await migrate({ url: database });
  const [a, b] = [await startHost("A", "1", database), await startHost("B", "1", database)];
  const rooms = await Promise.all(
    ROOMS.map(async (room, n) => (n % 2 === 0 ? openRoom(room, a, b) : openRoom(room, b, a))),
  );
  const all = rooms.flatMap(({ members }) => members);
  const talk = async () => {
    const before = all.map(({ said }) => said);
    await until(() => all.every(({ said }, n) => said > before[n] + 5), "each member to say five things");
  };
  await talk();
  for (const { room, members } of rooms)
    print(`  room ${paint(33, room)} is on ${nameOf(members[0].address)}`);
  const c = await startHost("C", "2", database);
  await stopHost(a);
  const d = await startHost("D", "2", database);
  await stopHost(b);
  await talk();
  const results = await Promise.all(rooms.map(async ({ end }) => end()));
  for (const host of [c, d]) await stopHost(host);
  const said = results.reduce((sum, one) => sum + one.said, 0);
  const isWhole = results.every((one) => one.isWhole);
  print(
    isWhole
      ? paint(32, `${said} things were said, and each member has heard all of its room in one order`)
      : paint(31, `of ${said} things that were said some are missing`),
  );
  return isWhole ? 0 : 1;
}

async function main() {
  const postgres = await startPostgres();
  print(`PostgreSQL ${postgres.version} in ${postgres.directory}`);
  const interrupted = new Promise((resolve) => {
    for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => resolve(130));
  });
  try {
    return await Promise.race([show(postgres.url), interrupted]);
  } finally {
    for (const { child } of hosts.values()) child.kill("SIGKILL");
    await Promise.all([...hosts.values()].map(({ exited }) => exited));
    await postgres.stop();
  }
}

try {
  process.exit(await main());
} catch (error) {
  process.stderr.write(`${error.message}\n`);
  process.exit(1);
}
