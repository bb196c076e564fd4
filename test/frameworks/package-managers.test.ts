import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll } from "vitest";
import { AUTO, testUpgrades } from "./application.js";

const directory = mkdtempSync(join(tmpdir(), "handover-managers-"));
const program = (name: string): string => join(directory, name);

beforeAll(() => {
  run(".", "node", "native/prebuild.js");
  run(".", "npm", "pack", "--silent", "--ignore-scripts", "--pack-destination", directory);
  const tarball = readdirSync(directory).find((name) => name.endsWith(".tgz"))!;
  const dependencies = { handover: `file:${join(directory, tarball)}` };
  const project = (name: string, manifest: object, files: Record<string, string> = {}): void => {
    const home = program(name);
    mkdirSync(join(home, "packages/web"), { recursive: true });
    const all = {
      "package.json": JSON.stringify({ name: "app", private: true, type: "module", ...manifest }),
      "server.js": SERVER,
      "plain.js": PLAIN,
      ...files,
    };
    for (const [file, text] of Object.entries(all)) writeFileSync(join(home, file), text);
  };
  const web = JSON.stringify({ name: "web", version: "1.0.0", type: "module", dependencies });

  project("pnpm", { dependencies });
  run(program("pnpm"), "node", packaged("pnpm/bin/pnpm.cjs"), "install", "--ignore-scripts", "--silent");

  const config = "nodeLinker: pnp\nenableTelemetry: false\nenableGlobalCache: false\nenableScripts: false\n";
  // Yarn adds node-gyp to a package that has an addon. Nothing is built here, nor downloaded.
  const headers = `file:${resolve("node_modules/node-addon-api")}`;
  const resolutions = { "node-addon-api": headers, "node-gyp": headers };
  project("pnp", { dependencies, resolutions }, { ".yarnrc.yml": config, "yarn.lock": "" });
  run(program("pnp"), "node", packaged("@yarnpkg/cli-dist/bin/yarn.js"), "install", "--no-immutable");

  const member = { "packages/web/package.json": web, "packages/web/server.js": SERVER };
  project("workspaces", { workspaces: ["packages/*"] }, member);
  run(program("workspaces"), "npm", "install", "--silent", "--ignore-scripts", "--no-audit", "--no-fund");
});
afterAll(() => rmSync(directory, { recursive: true }));

testUpgrades("a project of pnpm", { directory: program("pnpm"), args: ["server.js"] });
testUpgrades("a project of pnpm, unchanged", { directory: program("pnpm"), args: [...AUTO, "plain.js"] });

const pnp = ["--require", "./.pnp.cjs", "--loader", "./.pnp.loader.mjs"];
// Node says of --loader that it is experimental.
const prints = /.*ExperimentalWarning.*|.*--import 'data.*|.*--trace-warnings.*|.*DEP0.*/g;
testUpgrades("a project of yarn PnP", {
  directory: program("pnp"),
  args: [...pnp, "server.js"],
  prints,
});
testUpgrades("a project of yarn PnP, unchanged", {
  directory: program("pnp"),
  args: [...pnp, ...AUTO, "plain.js"],
  prints,
});
testUpgrades("a package of a workspace of npm", {
  directory: join(program("workspaces"), "packages/web"),
  args: ["server.js"],
});

const ANSWER = `async (request, response) => {
  const word = request.method === "POST" ? await text(request) : "hello";
  response.end(\`\${word} from \${process.pid}\`);
}`;
const SERVER = `import { createServer } from "node:http";
import { text } from "node:stream/consumers";
import { Upgrader } from "handover";
const upg = new Upgrader();
await upg.listen(createServer(${ANSWER}), { port: process.env.PORT });
await upg.ready();
await upg.exit;
`;
const PLAIN = `import { createServer } from "node:http";
import { text } from "node:stream/consumers";
createServer(${ANSWER}).listen(process.env.PORT);
`;

/** A file of a package of the suite. */
function packaged(file: string): string {
  return resolve("test/frameworks/node_modules", file);
}

function run(cwd: string, command: string, ...args: string[]): void {
  execFileSync(command === "node" ? process.execPath : command, args, { cwd, stdio: "pipe" });
}
