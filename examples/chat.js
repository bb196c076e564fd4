// A chat over TCP, line by line. Connect with `nc localhost 7777`, and upgrade it with `kill -HUP` at any time: no
// client is disconnected, and no part of a line is lost.
import { createServer } from "node:net";
import { Upgrader } from "handover";

const upg = new Upgrader({ probation: 1_000 });

/** The nick and the unfinished line of each member, by its socket. */
const people = new Map();

function enter(socket, person) {
  people.set(socket, person);
  socket.on("data", (chunk) => {
    // In latin1 each byte is a character, so the first bytes of a UTF-8 character can wait for the others.
    const lines = (person.half + chunk.toString("latin1")).split("\n");
    person.half = lines.pop();
    for (const line of lines) onLine(person, line.trimEnd());
  });
  socket.on("close", () => people.delete(socket));
  socket.on("error", () => {});
}

function onLine(person, line) {
  if (person.nick === undefined) person.nick = line;
  else say(`${person.nick}: ${line}`);
}

function say(line) {
  for (const socket of people.keys()) socket.write(`${line}\n`, "latin1");
}

const server = createServer((socket) => {
  socket.write("Who are you?\n");
  enter(socket, { half: "" });
});

// How a connection moves to the next process. Up to 64 connections move in one turn, so a room of this size is never
// split between two processes. A larger room needs a message broker that both processes subscribe to.
const connections = {
  name: "chat",
  version: 1,
  idle: (socket) => people.has(socket) && socket.writableLength === 0,
  freeze: (socket) => people.get(socket),
  thaw: (socket, person) => enter(socket, person),
  close: (socket) => Boolean(socket.end("The chat is over.\n")),
};

const { port } = await upg.listen(server, { port: process.env.PORT ?? 7777, connections });
await upg.ready();
console.log(`${process.pid} chats on port ${port}`);
await upg.exit;
console.log(`${process.pid} has left`);
