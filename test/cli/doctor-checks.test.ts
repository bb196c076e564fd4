import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { readLevels } from "../../dist/cli/doctor/cgroup.js";
import { CHECKS } from "../../dist/cli/doctor/checks/index.js";
import type { Facts } from "../../dist/cli/doctor/facts.js";
import { runChecks } from "../../dist/cli/doctor/findings.js";
import { canonical, parseListeners } from "../../dist/cli/doctor/listener-facts.js";
import { fitsEngines } from "../../dist/cli/doctor/node-probe.js";
import { parseTimespan } from "../../dist/cli/doctor/systemctl.js";
import { temporaryDirectory } from "../support/service.js";

describe("the checks of a healthy service", () => {
  test("the checks find nothing wrong with a healthy service", () => {
    expect(examine(healthy()).filter(({ severity }) => severity !== "ok")).toEqual([]);
  });

  test("every check reports on a healthy service", () => {
    const names = new Set(examine(healthy()).map(({ check }) => check));
    expect([...names].toSorted()).toEqual(
      [
        "unit-state",
        "unit-type",
        "notify-access",
        "unit-pid-file",
        "exec-reload",
        "kill-mode",
        "kill-signal",
        "descriptor-store",
        "oom-policy",
        "timeout-start",
        "timeout-stop",
        "systemd-version",
        "control",
        "state",
        "pid-file",
        "paths",
        "draining",
        "signals",
        "pid-1",
        "manager",
        "terminal",
        "directory",
        "command",
        "script",
        "node",
        "addon",
        "listeners",
        "descriptors",
        "memory",
        "tasks",
      ].toSorted(),
    );
  });
});

/** What is to be found if one thing about that service is different. */
type Case = [
  what: string,
  change: (facts: Mutable) => unknown,
  check: string,
  severity: "warning" | "error",
  says: RegExp,
];

describe.each<{ of: string; cases: Case[] }>([
  {
    of: "the unit",
    cases: [
      [
        "its file was changed",
        set("NeedDaemonReload", "yes"),
        "unit-state",
        "warning",
        /was changed after .* systemctl daemon-reload/,
      ],
      [
        "it does not run",
        (f) => Object.assign(f, { process: undefined }) && set("ActiveState", "failed")(f),
        "unit-state",
        "warning",
        /is failed/,
      ],
      ["its type is oneshot", set("Type", "oneshot"), "unit-type", "error", /ends when its process exits/],
      ["its type is simple", set("Type", "simple"), "unit-type", "warning", /started before it is ready/],
      [
        "nothing names the new process",
        (f) => [set("Type", "simple")(f), set("PIDFile", "")(f), set("NotifyAccess", "none")(f)],
        "unit-type",
        "error",
        /kills the new one/,
      ],
      [
        "its type is notify-reload",
        (f) => [set("Type", "notify-reload")(f), (f.systemd = 255)],
        "unit-type",
        "warning",
        /does not learn that an upgrade failed/,
      ],
      [
        "this systemd knows no notify-reload",
        (f) => [set("Type", "notify-reload")(f), (f.systemd = 252)],
        "unit-type",
        "error",
        /systemd 252 does not support it/,
      ],
      ["nobody may notify", set("NotifyAccess", "none"), "notify-access", "error", /set NotifyAccess=main/],
      [
        "nobody may notify, and it is simple",
        (f) => [set("Type", "simple")(f), set("NotifyAccess", "none")(f)],
        "notify-access",
        "warning",
        /NotifyAccess=none/,
      ],
      [
        "it forks without a PID file",
        (f) => [set("Type", "forking")(f), set("PIDFile", "")(f)],
        "unit-pid-file",
        "error",
        /guesses/,
      ],
      [
        "its PID file is another",
        set("PIDFile", "/run/other.pid"),
        "unit-pid-file",
        "error",
        /PIDFile=\/run\/other.pid, and the program's pidFile is \/run\/app\/app.pid/,
      ],
      [
        "it cannot be reloaded",
        (f) => (f.unit!.reload = undefined),
        "exec-reload",
        "error",
        /is refused.* ExecReload= to handover upgrade/,
      ],
      [
        "a reload sends a signal",
        reload("/bin/kill", "-HUP $MAINPID"),
        "exec-reload",
        "warning",
        /succeeds even if the upgrade fails/,
      ],
      [
        "a reload sends a signal to deaf ears",
        (f) => [
          reload("/bin/kill", "-HUP $MAINPID")(f),
          (f.settings.signals = { upgrade: undefined, stop: ["SIGTERM"] }),
        ],
        "exec-reload",
        "error",
        /no signal upgrades the program/,
      ],
      [
        "a reload does something else",
        reload("/bin/true", ""),
        "exec-reload",
        "warning",
        /not known to upgrade/,
      ],
      [
        "a reload runs what is not there",
        (f) => (f.missing = ["/srv/app/handover.js"]),
        "exec-reload",
        "error",
        /there is no \/srv\/app\/handover.js/,
      ],
      [
        "a reload looks for another PID file",
        reload("/usr/bin/node", "/h.js upgrade --pid-file /run/x.pid"),
        "exec-reload",
        "error",
        /does not find it/,
      ],
      [
        "a reload runs npx in /",
        (f) => [
          reload("/usr/bin/npx", "handover upgrade --pid-file /run/app/app.pid")(f),
          set("WorkingDirectory", "")(f),
        ],
        "exec-reload",
        "error",
        /asks the registry/,
      ],
      [
        "a failing reload is ignored",
        (f) => (f.unit!.reload!.ignoresErrors = true),
        "exec-reload",
        "warning",
        /remove the -/,
      ],
      [
        "a stop signals everything",
        set("KillMode", "control-group"),
        "kill-mode",
        "warning",
        /all processes at once/,
      ],
      [
        "a stop leaves processes",
        set("KillMode", "process"),
        "kill-mode",
        "warning",
        /leaves processes behind/,
      ],
      [
        "a stop sends another signal",
        set("KillSignal", "3"),
        "kill-signal",
        "warning",
        /KillSignal=SIGQUIT: the program stops on SIGTERM, SIGINT/,
      ],
      [
        "it keeps no listeners",
        set("FileDescriptorStoreMax", "0"),
        "descriptor-store",
        "warning",
        /after a crash clients are refused/,
      ],
      [
        "a new process can take it down",
        set("OOMPolicy", "stop"),
        "oom-policy",
        "warning",
        /OOMPolicy=continue/,
      ],
      [
        "a reload has too little time",
        set("TimeoutStartUSec", "1min"),
        "timeout-start",
        "warning",
        /TimeoutStartSec=60: .* 1 min 3 s .* TimeoutStartSec=93/,
      ],
      [
        "a stop has too little time",
        set("TimeoutStopUSec", "40s"),
        "timeout-stop",
        "warning",
        /TimeoutStopSec=40: a stop may take 40 s/,
      ],
      [
        "its PID file is in its own /tmp",
        (f) => [set("PrivateTmp", "yes")(f), (f.settings.pidFile = "/tmp/app.pid")],
        "sandbox",
        "warning",
        /RuntimeDirectory=app, and pidFile to "\/run\/app\/app.pid"/,
      ],
      [
        "systemd looks for it in another /tmp",
        (f) => [set("PrivateTmp", "yes")(f), set("Type", "simple")(f), (f.settings.pidFile = "/tmp/app.pid")],
        "sandbox",
        "error",
        /systemd looks for the PID file in the shared/,
      ],
      [
        "its PID file is read-only",
        (f) => [set("ProtectSystem", "strict")(f), (f.settings.pidFile = "/srv/app.pid")],
        "sandbox",
        "error",
        /ready\(\) fails/,
      ],
      ["its systemd is old", (f) => (f.systemd = 241), "systemd-version", "warning", /before 244, log lines/],
    ],
  },
  {
    of: "the process",
    cases: [
      [
        "it does not answer",
        (f) => [(f.status = undefined), (f.silence = "no control socket")],
        "control",
        "error",
        /no control socket: .*pidFile/,
      ],
      ["it is not ready", (f) => (f.status!.state = "starting"), "state", "error", /refused before ready/],
      [
        "it is being upgraded",
        (f) => (f.status!.state = "upgrading"),
        "state",
        "warning",
        /only one upgrade runs/,
      ],
      ["it was replaced", (f) => (f.status!.state = "draining"), "state", "error", /it is draining/],
      [
        "its PID file names nobody",
        (f) => (f.pidFile!.isAlive = false),
        "pid-file",
        "error",
        /names process 4711, which has exited/,
      ],
      [
        "its PID file names another",
        (f) => (f.pidFile!.pid = 1),
        "pid-file",
        "error",
        /names process 1, and process 4711 serves/,
      ],
      [
        "its PID file cannot be read",
        (f) => (f.pidFile!.problem = "cannot read it"),
        "pid-file",
        "error",
        /^cannot read it/,
      ],
      [
        "it cannot write there",
        (f) => (f.paths[0]!.problem = "/run is root's"),
        "paths",
        "error",
        /cannot be replaced: \/run is root's: ready\(\) of the next generation fails/,
      ],
      [
        "others can write there",
        (f) => (f.paths[0]!.exposure = "/tmp has mode 1777"),
        "paths",
        "warning",
        /can be created by every user: \/tmp has mode 1777/,
      ],
      [
        "older ones pile up",
        (f) => (f.status!.predecessors = older(3)),
        "draining",
        "warning",
        /3 of 4 predecessors drain/,
      ],
      [
        "there are as many older ones as may be",
        (f) => (f.status!.predecessors = older(4)),
        "draining",
        "error",
        /ERR_TOO_MANY_DRAINING/,
      ],
      [
        "the program listens for SIGHUP itself",
        (f) => (f.status!.signalListeners = ["onSignal"]),
        "signals",
        "warning",
        /SIGHUP runs other listeners of the program, too: onSignal/,
      ],
      ["it is PID 1", (f) => (f.process!.innerPid = 1), "pid-1", "error", /ERR_PID_1/],
      [
        "an init waits for it",
        (f) => (f.process!.ancestors = [ancestor("tini", 1)]),
        "pid-1",
        "error",
        /tini \(pid 1\) waits for it/,
      ],
      [
        "a shell is PID 1",
        (f) => (f.process!.ancestors = [ancestor("sh", 1)]),
        "pid-1",
        "warning",
        /PID 1 is sh/,
      ],
      [
        "npm is PID 1",
        (f) => (f.process!.ancestors = [ancestor("npm start", 1)]),
        "pid-1",
        "warning",
        /PID 1 is npm start/,
      ],
      [
        "it runs under PM2",
        (f) => (f.process!.env = { pm_id: "0", PM2_HOME: "/" }),
        "manager",
        "error",
        /under PM2/,
      ],
      [
        "it runs under nodemon",
        (f) => f.process!.ancestors.unshift(ancestor("node", 5, ["node", "/usr/bin/nodemon"])),
        "manager",
        "error",
        /under nodemon/,
      ],
      [
        "it runs under supervisord",
        (f) => f.process!.ancestors.unshift(ancestor("supervisord", 5)),
        "manager",
        "error",
        /under supervisord/,
      ],
      [
        "npm has started it",
        (f) => (f.process!.waitingParent = ancestor("npm start", 5, ["npm start", "", ""])),
        "manager",
        "warning",
        /npm start \(pid 5\) waits for it/,
      ],
      ["it has a terminal", (f) => (f.process!.hasTerminal = true), "terminal", "warning", /from a terminal/],
    ],
  },
  {
    of: "what would be started",
    cases: [
      [
        "it is in a container",
        (f) => [(f.process!.hasOtherRoot = true), (f.start = undefined)],
        "root",
        "warning",
        /inside the container/,
      ],
      [
        "nothing can be started",
        (f) => [(f.startProblem = "cannot start a successor in /x"), (f.start = undefined)],
        "directory",
        "error",
        /ERR_SPAWN/,
      ],
      [
        "the directory is gone",
        (f) => (f.start!.hasDirectory = false),
        "directory",
        "error",
        /\/srv\/app\/current no longer exists/,
      ],
      ["Node is gone", (f) => (f.start!.file = undefined), "command", "error", /node is not found/],
      [
        "the script is gone",
        (f) => (f.start!.script!.exists = false),
        "script",
        "error",
        /server.js no longer exists/,
      ],
      [
        "its directory is known by its physical name",
        (f) => (f.start!.lostLink = "/srv/app/current"),
        "release",
        "warning",
        /Environment=PWD=\/srv\/app\/current/,
      ],
      [
        "Node does not run",
        (f) => (f.start!.node!.version = { failure: "bad ELF" }),
        "node",
        "error",
        /does not run: bad ELF/,
      ],
      [
        "Node is too old",
        (f) => (f.start!.node!.version = "v20.18.9"),
        "node",
        "error",
        /is Node v20.18.9, and .* needs >=20.19/,
      ],
      [
        "Node cannot load the addon",
        (f) => (f.start!.node!.addonFailure = "ABI"),
        "addon",
        "error",
        /ABI: .*ERR_NOT_SUPPORTED.*npm run build:native --prefix \//,
      ],
      [
        "there is no addon for it",
        (f) => (f.start!.node!.addonFailure = ""),
        "addon",
        "error",
        /none for this platform/,
      ],
      [
        "the package is not installed",
        (f) => [(f.process = undefined), (f.start!.node!.isInstalled = false)],
        "package",
        "warning",
        /npm install handover/,
      ],
    ],
  },
  {
    of: "the capacity for a second process",
    cases: [
      [
        "an unknown listener has a fixed port",
        listens("tcp", "0.0.0.0:9000"),
        "listeners",
        "error",
        /tcp:0.0.0.0:9000 was opened without handover: .*EADDRINUSE/,
      ],
      [
        "an unknown listener is a path",
        listens("unix", "/run/x.sock"),
        "listeners",
        "error",
        /unix:\/run\/x.sock/,
      ],
      [
        "an unknown listener has a port of the system's",
        listens("tcp", "127.0.0.1:40000"),
        "listeners",
        "warning",
        /for exactly this port/,
      ],
      [
        "another process has its port, too",
        (f) => f.listeners!.others.push({ kind: "tcp", address: "127.0.0.1:8080", inode: "9", pid: 7 }),
        "ports",
        "warning",
        /process 7 listens on tcp:127.0.0.1:8080, too/,
      ],
      [
        "descriptors run out",
        (f) => (f.process!.descriptors = { open: 100, limit: 110 }),
        "descriptors",
        "error",
        /100 of 110 .* about 20 more/,
      ],
      [
        "descriptors are few",
        (f) => (f.process!.descriptors = { open: 100, limit: 210 }),
        "descriptors",
        "warning",
        /raise the limit to 440 or more/,
      ],
      [
        "this shell allows few",
        (f) => [(f.process = undefined), (f.descriptorLimit = 1_024)],
        "descriptors",
        "warning",
        /ulimit -n 1024/,
      ],
      [
        "its group has no memory left",
        (f) => (f.capacity.memory = { limit: 100 * MIB, used: 60 * MIB, file: "memory.max" }),
        "memory",
        "error",
        /40 MiB of 100 MiB are left \(memory.max\): .*cannot start/,
      ],
      [
        "its group has less than twice its memory",
        (f) => (f.capacity.memory = { limit: 200 * MIB, used: 110 * MIB, file: "memory.max" }),
        "memory",
        "warning",
        /90 MiB of 200 MiB are left .* as much as this one: 100 MiB/,
      ],
      [
        "it would be slowed down",
        (f) => (f.capacity.throttle = { limit: 200 * MIB, used: 110 * MIB, file: "memory.high" }),
        "memory",
        "warning",
        /slows the group down/,
      ],
      [
        "the machine has no memory left",
        (f) => (f.capacity.available = 10 * MIB),
        "memory",
        "error",
        /the machine has 10 MiB of memory available/,
      ],
      [
        "its group may have no more tasks",
        (f) => (f.capacity.tasks = { limit: 20, used: 12, file: "pids.max" }),
        "tasks",
        "error",
        /8 of 20 tasks are left/,
      ],
      [
        "its group may have few more tasks",
        (f) => (f.capacity.tasks = { limit: 30, used: 12, file: "pids.max" }),
        "tasks",
        "warning",
        /18 of 30 tasks are left/,
      ],
    ],
  },
])("the checks of $of", ({ of, cases }) => {
  test.each(cases)(`the checks of ${of} find: %s`, (_, change, check, severity, says) => {
    const facts = healthy();
    change(facts);
    const found = examine(facts).find((one) => one.check === check && one.severity !== "ok");
    expect(found?.severity).toBe(severity);
    const { what, why, fix } = { why: "", fix: "", ...found! };
    expect(`${what}: ${why}. ${fix}`).toMatch(says);
  });
});

test("a later generation is not checked for its terminal or its ancestors", () => {
  for (const name of ["tini", "sh", "supervisord"]) {
    const facts = healthy();
    facts.status!.generation = 1;
    const parent = ancestor(name, 1);
    Object.assign(facts.process!, { hasTerminal: true, ancestors: [parent], waitingParent: parent });
    expect(examine(facts).filter(({ severity }) => severity !== "ok")).toEqual([]);
  }
});

test.each([
  ["--inspect", "127.0.0.1:9229"],
  ["--inspect=localhost:9300", "127.0.0.1:9300"],
  ["--inspect=0", "127.0.0.1:40000"],
])("the inspector that %s starts is not taken for a listener of the program", (option, address) => {
  for (const change of [
    (facts: Mutable) => (facts.process!.words = ["node", option, "server.js"]),
    (facts: Mutable) => (facts.process!.env = { NODE_OPTIONS: `--no-deprecation ${option}` }),
  ]) {
    const facts = healthy();
    change(facts);
    listens("tcp", address)(facts);
    expect(examine(facts).filter(({ severity }) => severity !== "ok")).toEqual([]);
    listens("tcp", "127.0.0.1:9301")(facts);
    expect(examine(facts)).toContainEqual(expect.objectContaining({ check: "listeners", severity: "error" }));
  }
});

test.each([
  ["RuntimeDirectory", '"a blank and ü" app', "/run/a blank and ü/app.pid"],
  ["ReadWritePaths", '/srv/app "-/srv/a \\"blank\\" and ü"', '/srv/a "blank" and ü/app.pid'],
])("a PID file may be in a directory that systemctl quotes, %s=%s", (name, value, pidFile) => {
  const facts: Mutable = healthy();
  set("ProtectSystem", "strict")(facts);
  set(name, value)(facts);
  facts.settings.pidFile = pidFile;
  expect(examine(facts).filter(({ check }) => check === "sandbox")).toEqual([]);
});

test("a UDP socket that only sends is not taken for a listener", () => {
  const facts = healthy();
  listens("udp", "0.0.0.0:40000")(facts);
  expect(examine(facts).filter(({ severity }) => severity !== "ok")).toEqual([]);
});

test("the descriptor store needs room for the listeners that it keeps, and for no other", () => {
  const facts = healthy();
  set("FileDescriptorStoreMax", "1")(facts);
  facts.status!.listeners.push({ name: "web", address: "[::]:80", passed: true }, { name: "a file" });
  expect(examine(facts).filter(({ severity }) => severity !== "ok")).toEqual([]);
});

describe("the tables of the kernel", () => {
  test("the tables of the kernel are read for listeners", () => {
    const head =
      "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";
    const rest = "00000000:00000000 00:00000000 00000000     0        0";
    const tables: Record<string, string> = {
      tcp: `${head}\n   0: 0100007F:1F90 00000000:0000 0A ${rest} 11 1\n   1: 0100007F:1F90 0100007F:A000 01 ${rest} 12 1\n`,
      tcp6: `${head}\n   0: 00000000000000000000000000000000:01BB 00000000000000000000000000000000:0000 0A ${rest} 13 1\n   1: 0000000000000000FFFF00000100007F:0050 00000000000000000000000000000000:0000 0A ${rest} 14 1\n`,
      udp: `${head}\n   5: 00000000:0035 00000000:0000 07 ${rest} 15 2\n   6: 00000000:0036 0100007F:0035 01 ${rest} 16 2\n`,
      udp6: "",
      unix: "Num       RefCount Protocol Flags    Type St Inode Path\n0: 00000002 00000000 00010000 0001 01 17 /run/my app.sock\n0: 00000003 00000000 00000000 0001 03 18 /run/other\n0: 00000002 00000000 00010000 0001 01 19 @abstract\n",
    };
    const found = parseListeners((name) => tables[name]!).map(
      ({ kind, address, inode }) => `${kind} ${address} ${inode}`,
    );
    expect(found).toEqual([
      "tcp 127.0.0.1:8080 11",
      "tcp [::]:443 13",
      "tcp [::ffff:7f00:1]:80 14",
      "udp 0.0.0.0:53 15",
      "unix /run/my app.sock 17",
      "unix @abstract 19",
    ]);
  });

  test.each([
    ["[::ffff:127.0.0.1]:80", "[::ffff:7f00:1]:80"],
    ["[fe80::1%eth0]:80", "[fe80::1]:80"],
    ["127.0.0.1:80", "127.0.0.1:80"],
    ["/run/[x]:1", "/run/[x]:1"],
  ])("the address %s is read as %s", (address, same) => {
    expect(canonical(address)).toBe(same);
  });

  test("the limits of control groups are read, of both versions, and of the groups above", () => {
    const root = temporaryDirectory();
    const write = (path: string, files: Record<string, string | number>): void => {
      mkdirSync(join(root, path), { recursive: true });
      for (const [name, value] of Object.entries(files)) writeFileSync(join(root, path, name), `${value}\n`);
    };
    write("two/a/b", {
      "memory.max": "max",
      "memory.current": 5,
      "memory.high": 900,
      "pids.max": 50,
      "pids.current": 8,
    });
    write("two/a", {
      "memory.max": 1_000,
      "memory.current": 700,
      "memory.stat": "anon 1\ninactive_file 300\n",
    });
    write("one/a", { "memory.limit_in_bytes": "9223372036854771712", "memory.usage_in_bytes": 1 });
    write("pids/a", { "pids.max": 30, "pids.current": 7 });
    const mount = (n: number, at: string, type: string): string =>
      `${n} 1 0:${n} / ${root}/${at} rw - ${type} cgroup rw${type === "cgroup" ? `,${at === "one" ? "memory" : at}` : ""}`;
    const mounts = [
      mount(1, "two", "cgroup2"),
      mount(2, "one", "cgroup"),
      mount(3, "pids", "cgroup"),
      "9 1 0:9 / / rw - ext4 x rw",
    ];
    expect(readLevels("5:memory:/a\n4:pids:/a\n0::/a/b\n", mounts.join("\n"))).toEqual({
      memory: { limit: 1_000, used: 400, file: `${root}/two/a/memory.max` },
      throttle: { limit: 900, used: 5, file: `${root}/two/a/b/memory.high` },
      tasks: { limit: 30, used: 7, file: `${root}/pids/a/pids.max` },
    });
    // A group of another namespace, and none at all.
    expect(readLevels("0::/../x\n", mounts[0]!)).toEqual({});
    expect(readLevels("", "")).toEqual({});
  });
});

test.each([
  ["1min 30s", 90_000],
  ["infinity", Infinity],
  ["500ms", 500],
  ["1.5s", 1_500],
  ["1h 1min 1s 2ms 3us", 3_661_002.003],
  ["0", 0],
  ["", undefined],
  ["a while", undefined],
])("the time span %j of systemd is %s ms", (text, ms) => {
  expect(parseTimespan(text)).toBe(ms);
});

test.each([
  ["v20.19.0", ">=20.19", true],
  ["v20.18.3", ">=20.19", false],
  ["v24.0.0", ">=20.19", true],
  ["v20.0.0", ">=20", true],
  ["v18.0.0", "18 || 20", true],
])("Node %s satisfies the engines %s: %s", (version, range, fits) => {
  expect(fitsEngines(version, range)).toBe(fits);
});

describe("the checks of a supervisor", () => {
  test("the checks find nothing wrong with a healthy supervisor, whatever waits for it", () => {
    for (const name of ["tini", "sh", "supervisord"]) {
      const facts = supervised();
      const parent = ancestor(name, 1);
      Object.assign(facts.process!, { hasTerminal: true, ancestors: [parent], waitingParent: parent });
      expect(examine(facts).filter(({ severity }) => severity !== "ok")).toEqual([]);
    }
    const facts = supervised();
    Object.assign(facts.process!, { innerPid: 1 });
    expect(examine(facts).filter(({ severity }) => severity !== "ok")).toEqual([]);
  });

  test.each<Case>([
    [
      "a worker has failed",
      (facts) =>
        Object.assign(facts.status!.workers![1]!, { state: "failed", lastExit: "it exited with code 3" }),
      "workers",
      "error",
      /worker 1 has failed: .* code 3\. .*handover upgrade/,
    ],
    [
      "a worker is started again",
      (facts) => Object.assign(facts.status!.workers![0]!, { state: "waiting", lastExit: "it was killed" }),
      "workers",
      "warning",
      /worker 0 does not run: .* it was killed/,
    ],
    [
      "a worker hangs",
      (facts) => (facts.status!.workers![0]!.silence = 5_000),
      "workers",
      "warning",
      /worker 0 is silent for 5 s/,
    ],
    [
      "there are more workers than processors",
      (facts) => (facts.processors = 1),
      "processors",
      "warning",
      /2 workers for 1 processor: .*--workers 1/,
    ],
    [
      "a socket unit has one queue for all",
      (facts) => (facts.status!.listeners[0]!.passed = true),
      "queues",
      "warning",
      /comes from systemd: .*one queue/,
    ],
    [
      "the kernel refuses to steer",
      (facts) => (facts.status!.listeners[0]!.unsteered = true),
      "queues",
      "warning",
      /the kernel does not steer .*SO_ATTACH_REUSEPORT_CBPF/,
    ],
    [
      "a worker listens without handover",
      (facts) =>
        facts.workers![1]!.listeners.own.push({ kind: "tcp", address: "127.0.0.1:9301", inode: "9" }),
      "listeners",
      "error",
      /tcp:127\.0\.0\.1:9301 was opened without handover by worker 1 \(pid 22\)/,
    ],
    [
      "PM2 runs it",
      (facts) => (facts.process!.env = { pm_id: "0", PM2_HOME: "/root/.pm2" }),
      "manager",
      "warning",
      /runs under PM2: .*handover run itself/,
    ],
    [
      "node --watch runs it",
      (facts) => (facts.process!.env = { WATCH_REPORT_DEPENDENCIES: "1" }),
      "manager",
      "warning",
      /runs under node --watch/,
    ],
    [
      "the descriptor store has no room for each worker",
      set("FileDescriptorStoreMax", "1"),
      "descriptor-store",
      "warning",
      /FileDescriptorStoreMax=1: /,
    ],
    [
      "there is no memory for a second set",
      (facts) => (facts.capacity.available = 150 * MIB),
      "memory",
      "warning",
      /a second set of workers may take as much/,
    ],
  ])("the checks of a supervisor find: %s", (_, change, check, severity, says) => {
    const facts = supervised();
    change(facts);
    const found = examine(facts).filter((one) => one.severity !== "ok");
    expect(found.map((one) => [one.check, one.severity])).toEqual([[check, severity]]);
    const [{ what, why, fix }] = found as [Exclude<(typeof found)[0], { severity: "ok" }>];
    expect(`${what}: ${why}. ${fix}`).toMatch(says);
  });
});

/** The same service as a supervisor with two workers. */
function supervised(): Mutable {
  const facts: Mutable = healthy();
  const process = facts.process!;
  const listeners = facts.listeners!;
  facts.status!.name = "app";
  facts.status!.workers = [0, 1].map((index) => ({ index, pid: 21 + index, state: "ready", restarts: 0 }));
  facts.workers = [0, 1].map((index) => ({
    index,
    process: { ...process, pid: 21 + index, resident: 100 * MIB },
    listeners: { ...listeners, own: [...listeners.own] },
  }));
  return facts;
}

const examine = (facts: Facts): ReturnType<typeof runChecks> => runChecks(CHECKS, facts);

type Mutable = { -readonly [K in keyof Facts]: Facts[K] } & {
  settings: { -readonly [K in keyof Facts["settings"]]: Facts["settings"][K] };
};

const MIB = 2 ** 20;

/** Of a unit as `handover unit` prints it, and a process that serves. */
function healthy(): Facts {
  const pidFile = "/run/app/app.pid";
  const program = ["/usr/bin/node", "/srv/app/current/node_modules/handover/bin/handover.js"];
  return {
    subject: "unit app.service",
    systemd: 252,
    unit: {
      name: "app.service",
      properties: new Map(
        Object.entries({
          ActiveState: "active",
          NeedDaemonReload: "no",
          Type: "notify",
          NotifyAccess: "main",
          PIDFile: pidFile,
          KillMode: "mixed",
          KillSignal: "15",
          FileDescriptorStoreMax: "64",
          OOMPolicy: "continue",
          TimeoutStartUSec: "1min 30s",
          TimeoutStopUSec: "45s",
          PrivateTmp: "no",
          ProtectSystem: "no",
          RuntimeDirectory: "app",
          WorkingDirectory: "/srv/app/current",
        }),
      ),
      start: { path: "/usr/bin/node", words: ["/usr/bin/node", "server.js"], ignoresErrors: false },
      reload: {
        path: "/usr/bin/node",
        words: [...program, "upgrade", "--pid-file", pidFile],
        ignoresErrors: false,
      },
    },
    missing: [],
    process: {
      pid: 4711,
      innerPid: 4711,
      user: { uid: 999, gids: [999] },
      words: ["/usr/bin/node", "server.js"],
      env: {},
      cwd: "/srv/app/releases/1",
      hasTerminal: false,
      descriptors: { open: 100, limit: 524_288 },
      resident: 100 * MIB,
      ancestors: [ancestor("systemd", 1)],
      waitingParent: undefined,
      hasOtherRoot: false,
    },
    status: {
      state: "ready",
      generation: 0,
      pid: 4711,
      uptime: 10,
      version: "0.1.0",
      node: "v20.19.0",
      listeners: [
        { name: "tcp:*:8080", address: "[::]:8080" },
        { name: "handover:control", address: `${pidFile}.sock` },
      ],
      connections: 0,
      predecessors: [],
      signalListeners: [],
      settings: settings(pidFile),
    },
    hidden: undefined,
    workers: undefined,
    processors: 2,
    silence: undefined,
    settings: settings(pidFile),
    pidFile: { file: pidFile, pid: 4711, isAlive: true, problem: undefined },
    paths: [
      { option: "pidFile", file: pidFile, problem: undefined },
      { option: "controlSocket", file: `${pidFile}.sock`, problem: undefined },
    ],
    listeners: {
      own: [
        { kind: "tcp", address: "[::]:8080", inode: "1" },
        { kind: "unix", address: `${pidFile}.sock`, inode: "2" },
      ],
      others: [],
      ephemeral: [32_768, 60_999],
    },
    capacity: {
      available: 2_000 * MIB,
      memory: { limit: 512 * MIB, used: 150 * MIB, file: "memory.max" },
      throttle: undefined,
      tasks: { limit: 1_000, used: 20, file: "pids.max" },
    },
    start: {
      words: ["node", "server.js"],
      cwd: "/srv/app/current",
      hasDirectory: true,
      file: "/usr/bin/node",
      script: { path: "/srv/app/current/server.js", exists: true },
      node: {
        file: "/usr/bin/node",
        version: "v20.19.0",
        root: "/srv/app/h",
        isInstalled: true,
        engines: ">=20.19",
        addonFailure: undefined,
      },
      lostLink: undefined,
    },
    startProblem: undefined,
    engine: undefined,
    descriptorLimit: 524_288,
  };
}

function settings(pidFile: string): Facts["settings"] {
  return {
    upgradeTimeout: 60_000,
    drainTimeout: 30_000,
    exitTimeout: 10_000,
    probation: 3_000,
    maxDraining: 4,
    pidFile,
    unmanaged: "refuse",
    tls: true,
    compileCache: undefined,
    address: undefined,
    release: undefined,
    stopDelay: 0,
    controlSocket: `${pidFile}.sock`,
    signals: { upgrade: "SIGHUP", stop: ["SIGTERM", "SIGINT"] },
  };
}

function set(name: string, value: string): (facts: Mutable) => unknown {
  return (facts) => (facts.unit!.properties as Map<string, string>).set(name, value);
}

function reload(path: string, rest: string): (facts: Mutable) => unknown {
  return (facts) => (facts.unit!.reload = { path, words: [path, ...rest.split(" ")], ignoresErrors: false });
}

function listens(kind: "tcp" | "udp" | "unix", address: string): (facts: Mutable) => unknown {
  return (facts) => facts.listeners!.own.push({ kind, address, inode: "99" });
}

function older(n: number): { generation: number; pid: number }[] {
  return Array.from({ length: n }, (_, generation) => ({ generation, pid: 100 + generation }));
}

function ancestor(name: string, pid: number, words = [name]): { pid: number; name: string; words: string[] } {
  return { pid, name, words };
}
