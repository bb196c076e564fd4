const { createServer } = require("node:http");
const { Upgrader } = require("handover");
const { app } = require("./app4.cjs");

async function main() {
  const upg = new Upgrader();
  await upg.listen(createServer(app), { port: process.env.PORT }); // in place of app.listen()
  await upg.ready();
  await upg.exit;
}

void main();
