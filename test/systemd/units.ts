/** What a program is told by its test, beside the options of its `Upgrader`. */
export interface Plan {
  /** What stands between `listen()` and `ready()`. */
  initialize?: string;
  /** What stands behind `ready()`. */
  begin?: string;
  /** The argument of `listen()`. */
  listen?: string;
  options?: string;
  /** Whether it has a PID file of its own. Default true. */
  pidFile?: boolean;
}

/** An HTTP server that answers with its PID; what is held when there is a SIGUSR2. */
export function program(name: string, port: number, plan: Plan = {}): string {
  const {
    initialize = "",
    begin = "",
    options = "",
    pidFile = true,
    listen = `{ port: ${port}, host: "127.0.0.1" }`,
  } = plan;
  return `import { createServer } from "node:http";
import { Upgrader } from "/srv/handover/dist/bundle/index.js";
const upg = new Upgrader({ ${pidFile ? `pidFile: "/run/${name}/pid", ` : ""}probation: 300, ${options} });
const held = [];
process.on("SIGUSR2", () => held.forEach((response) => response.end(String(process.pid))));
const server = createServer((request, response) => {
  if (request.url === "/block") Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
  if (request.url === "/hold") held.push(response) && response.write("held by ");
  else response.end(String(process.pid));
});
await upg.listen(server, ${listen});
${initialize}
await upg.ready();
${begin}
await upg.exit;
`;
}

/** The unit of such a program, and the program. Directives that are undefined are left out. */
export function service(
  name: string,
  port: number,
  directives: Record<string, string | undefined> = {},
  plan: Plan = {},
): Record<string, string> {
  const all = {
    ExecStart: `${process.execPath} /srv/app/${name}.mjs`,
    ExecReload: `${process.execPath} /srv/handover/bin/handover.js upgrade --pid-file /run/${name}/pid`,
    RuntimeDirectory: name,
    StandardOutput: `append:/tmp/${name}.log`,
    StandardError: `append:/tmp/${name}.log`,
    ...directives,
  };
  const lines = Object.entries(all).flatMap(([key, value]) =>
    value === undefined ? [] : [`${key}=${value}`],
  );
  return {
    [`/etc/systemd/system/${name}.service`]: `[Service]\n${lines.join("\n")}\n`,
    [`/srv/app/${name}.mjs`]: program(name, port, plan),
  };
}

/** The unit of such a program under a supervisor with two workers, and the program. */
export function supervised(
  name: string,
  port: number,
  directives: Record<string, string | undefined> = {},
  plan: Plan = {},
): Record<string, string> {
  const handover = `${process.execPath} /srv/handover/bin/handover.js`;
  const options = `--name ${name} --workers 2 --pid-file /run/${name}/pid --probation 300ms`;
  const own = {
    Type: "notify",
    ExecStart: `${handover} run ${options} -- /srv/app/${name}.mjs`,
    KillMode: "mixed",
    Restart: "on-failure",
    RestartSec: "0",
  };
  return service(name, port, { ...own, ...directives }, { ...plan, pidFile: false });
}

/** A socket unit for the service of the same name. */
export function socket(name: string, directives: Record<string, string | string[]>): Record<string, string> {
  const lines = Object.entries(directives).flatMap(([key, values]) =>
    [values].flat().map((value) => `${key}=${value}`),
  );
  return { [`/etc/systemd/system/${name}.socket`]: `[Socket]\n${lines.join("\n")}\n` };
}
