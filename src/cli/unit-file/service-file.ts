import { dirname } from "node:path";
import { VERSION } from "../../util/version.js";
import { DIRECTIVES } from "./directives.js";
import { listenStreams } from "./socket-file.js";
import type { Plan } from "./plan.js";
import { plainValue, quote, quoteProgram, quoteWord } from "./quote.js";
import { renderUnit, type Entry } from "./render.js";

/** The text of `<name>.service`. */
export function renderService(plan: Plan): string {
  const { name, sockets } = plan;
  return renderUnit(
    [
      `${name}.service, by handover ${VERSION}. Put it into /etc/systemd/system, and then:`,
      `  systemctl daemon-reload`,
      `  systemctl enable --now ${sockets.length > 0 ? `${name}.socket ` : ""}${name}.service`,
      `  systemctl reload ${name}      upgrades${plan.type === "notify-reload" ? "" : ", and fails if the upgrade fails"}`,
      `The program says: new Upgrader({ pidFile: ${JSON.stringify(plan.pidFile)} })`,
    ],
    { Unit: unit(plan), Service: service(plan), Install: install(plan) },
  );
}

function unit({ name, sockets }: Plan): Entry[] {
  return [
    ["What systemctl status and the journal call it.", `Description=${name}`],
    ["Started once the network is configured.", "After=network.target"],
    sockets.length > 0 && [
      "systemd listens, before the program runs and while it is restarted.",
      `Requires=${name}.socket`,
      `After=${name}.socket`,
    ],
  ];
}

function service(plan: Plan): Entry[] {
  const { upgradeTimeout, drainTimeout, watchdog } = plan;
  return [
    ...start(plan),
    ...ownership(plan),
    ...reload(plan),
    [
      `Of a start and a reload: upgradeTimeout (${upgradeTimeout} ms), probation, and some time to spare.`,
      `TimeoutStartSec=${seconds(upgradeTimeout) + 30}`,
    ],
    [
      `Of a stop: drainTimeout (${drainTimeout} ms), exitTimeout, and some time to spare. Then systemd kills.`,
      `TimeoutStopSec=${seconds(drainTimeout) + 15}`,
    ],
    [
      "A stop asks the process that serves, which ends when older ones have drained, too. Then systemd kills.",
      line("KillMode"),
    ],
    watchdog !== undefined && [
      "Restarted if its event loop is blocked for so many seconds.",
      `WatchdogSec=${watchdog}`,
    ],
    ["Starts the service again after a crash. After `handover stop` it stays stopped.", line("Restart")],
    [
      "Listeners are kept by systemd, too: after a crash the clients in their queues are served.",
      line("FileDescriptorStoreMax"),
    ],
    [
      "A new process that runs out of memory is a failed upgrade, and not the end of the service.",
      line("OOMPolicy"),
    ],
    [
      "Each connection is a descriptor, and during an upgrade some are held by both processes.",
      "LimitNOFILE=524288",
    ],
  ];
}

const TYPES: Record<Plan["type"], string> = {
  notify: "Started when the program is ready; it says so itself, and which process is the main one.",
  "notify-reload":
    "Started when the program is ready; a reload is a SIGHUP. systemd 253 and later. It is not told whether\n" +
    "an upgrade failed: Type=notify is.",
  simple: "Started at once, ready or not. Type=notify knows better.",
  forking:
    "Started when the program is ready, and has written its PID file. Type=notify does without a shell.",
};

function start({ type, command: [program = "", ...args], workingDirectory: directory }: Plan): Entry[] {
  const words =
    type === "forking"
      ? ["/bin/sh", "-c", quoteWord('"$0" "$@" &'), quoteWord(program), ...args.map(quoteWord)]
      : [quoteProgram(program), ...args.map(quoteWord)];
  return [
    [TYPES[type], `Type=${type}`],
    [
      "Only the main process speaks for the service; it names the next one when an upgrade is final.",
      line("NotifyAccess"),
    ],
    [
      "Absolute, as systemd wants it. A symlink is followed again at every upgrade.",
      `ExecStart=${words.join(" ")}`,
    ],
    [
      "Where it runs. PWD tells it under which name: behind a symlink, an upgrade goes to the new directory.",
      `WorkingDirectory=${plainValue("the directory", directory)}`,
      `Environment=${quote(`PWD=${directory}`)}`,
    ],
    [
      "The environment is the first process's in every generation: a change of it needs a restart.",
      "Environment=NODE_ENV=production",
    ],
  ];
}

function ownership({ user, pidFile, workingDirectory, sockets }: Plan): Entry[] {
  const runtime = runtimeDirectory(pidFile);
  const keeps =
    runtime !== undefined &&
    listenStreams(sockets, workingDirectory).some((one) => one.startsWith(`/run/${runtime}/`));
  return [
    user === undefined
      ? ["It runs as root. With --user it does not."]
      : [`Has to exist: useradd --system --shell /usr/sbin/nologin ${user}`, `User=${user}`],
    runtime !== undefined && [
      "Made for that user: for the PID file, and the control socket beside it.",
      // After a colon systemd takes the name of a symlink.
      `RuntimeDirectory=${quote(runtime).replaceAll(":", "\\:")}`,
    ],
    keeps && [
      "It has systemd's socket in it, which has to outlive the service.",
      "RuntimeDirectoryPreserve=yes",
    ],
    [
      "Names the process that serves. If the old one is killed in an upgrade, systemd finds the new one by it.",
      `PIDFile=${plainValue("the PID file", pidFile)}`,
    ],
  ];
}

/** Below /run, as systemd names it. */
function runtimeDirectory(pidFile: string): string | undefined {
  return /^(?:\/var)?\/run\/(.+)$/.exec(dirname(pidFile))?.[1];
}

function reload({ type, handover: [node = "", ...words], pidFile }: Plan): Entry[] {
  if (type === "notify-reload") return [];
  const command = [quoteProgram(node), ...[...words, "upgrade", "--pid-file", pidFile].map(quoteWord)];
  return [
    [
      "Upgrades, waits until the upgrade is final, and tells truthfully whether it worked.",
      `ExecReload=${command.join(" ")}`,
    ],
  ];
}

function install({ name, sockets }: Plan): Entry[] {
  return [
    ["Started at boot, if it is enabled.", "WantedBy=multi-user.target"],
    sockets.length > 0 && ["The two are enabled and disabled together.", `Also=${name}.socket`],
  ];
}

function line(name: keyof typeof DIRECTIVES): string {
  return `${name}=${DIRECTIVES[name]}`;
}

function seconds(ms: number): number {
  return Math.ceil(ms / 1_000);
}
