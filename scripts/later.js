// Splits the package in two: what a process needs to start, and what it needs later. A start would spend most of its time
// compiling code that no first process runs before it is upgraded, stopped, or given state.
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";

/** The modules of `src/` that are loaded later, by their folders; none means the whole folder. A start loads the others. */
const LATER = Object.entries({
  channel: "",
  connections:
    "adopter bundle connection-parcel dormant drain freeze moved-sockets mover paused-socket probe silence-watch use watched-writes",
  control: "session",
  core: "after-start attempts candidate exit history process-status shutdown staging takeover upgrade-checks worker worker-takeover",
  exchange: "directory-batch drain-context inbox local-exchange memory-file outbox queries route",
  metrics: "totals",
  platform: "child-process descriptors pidfd proc-net tls-internals",
  process:
    "command exchange-link exit-reason heartbeat inheritance inspector launch-identity node-words parents peer-process " +
    "predecessor spawn start-successor successor successor-process supervisor-directory supervisor-link supervisor-requests",
  sockets: "fds held-datagram port-owner unmanaged",
  tls: "",
  "state/slots": "",
  "state/units": "",
  state: "encoding global-roles json-loss",
  util: "batches member-cover shorten",
}).flatMap(([folder, modules]) => modules.split(" ").map((name) => `${folder}/${name}`));

/**
 * What the start imports from a later module becomes a member of the object in `src/platform/later.ts`, which is read at each
 * use. So the sources import as everywhere, and only these lists decide. A start must not even name a later function: write
 * `() => f()` where `f` would do.
 *
 * @param source the directory `src/`
 * @returns options of esbuild; the text of the entry `later`; and a function that removes the imports from a module's text
 */
export function splitLater(source) {
  const all = readdirSync(source, { recursive: true, encoding: "utf8" }).filter((name) =>
    name.endsWith(".ts"),
  );
  const later = new Set();
  for (const one of LATER) {
    const found = all.filter((name) => `${one}.ts` === name || (one.endsWith("/") && name.startsWith(one)));
    if (found.length === 0) throw new Error(`scripts/later.js: there is no src/${one}`);
    for (const name of found) later.add(join(source, name));
  }
  /** The later module of each value that the start imports. */
  const origins = new Map();
  const withoutLater = (file, text) => {
    if (later.has(file)) return text;
    return text.replaceAll(IMPORT, (statement, names, path) => {
      const origin = resolve(dirname(file), path.replace(/\.js$/, ".ts"));
      if (!later.has(origin)) return statement;
      for (const name of names.split(",").map((one) => one.trim())) {
        if (name === "" || name.startsWith("type ")) continue;
        if (!/^\w+$/.test(name) || (origins.get(name) ?? origin) !== origin) {
          throw new Error(`scripts/later.js: ${file} needs "${name}" under a name of its own`);
        }
        origins.set(name, origin);
      }
      // On as many lines: a stack trace names the line of the source.
      return "\n".repeat(statement.split("\n").length - 1);
    });
  };
  for (const name of all) withoutLater(join(source, name), readFileSync(join(source, name), "utf8"));
  const names = [...origins.keys()];
  // By which `later.ts` knows that the file belongs to it.
  const exported = [["HandoverError", join(source, "errors.ts")], ...origins];
  return {
    options: {
      define: Object.fromEntries(names.map((name) => [name, `later.${name}`])),
      inject: [join(source, "platform", "later.ts")],
    },
    text: exported.map(([name, origin]) => `export { ${name} } from ${JSON.stringify(origin)};`).join(""),
    withoutLater,
  };
}

const IMPORT = /^import \{([^}]*)\} from "(\.[^"]+)";$/gm;
