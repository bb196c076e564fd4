#!/usr/bin/env node
// In CommonJS, as the directory's package.json says: to load an ES module takes several milliseconds more.

// The next version of a supervisor must not be killed by a signal before it has loaded what handles it.
if (process.env.HANDOVER_STATE !== undefined) {
  const early = (globalThis[Symbol.for("handover.signals")] = {
    come: [],
    listen: (name) => early.come.push(name),
  });
  for (const name of ["SIGHUP", "SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGWINCH"])
    process.on(name, early.listen);
}

const { main, end } = require("../dist/bundle/cli/main.js");

void main(process.argv.slice(2)).then(end);
