#!/usr/bin/env node
// In CommonJS, as the directory's package.json says: to load an ES module takes several milliseconds more.
const { main } = require("../dist/bundle/cli/main.js");

void main(process.argv.slice(2)).then((code) => {
  process.exitCode = code;
});
