import { HandoverError } from "../../errors.js";
import { Load } from "./load.js";
import { withService, type Service } from "./demo-service.js";
import { renderTable } from "./table.js";
import { Tally } from "./tally.js";
import { interruptible } from "../interrupt.js";
import { count, duration, paint, repaint, writeJson, writeLines, writeText } from "../output.js";

export interface DemoOptions {
  upgrades: number;
  json?: true;
}

/** Upgrades a demo server under load, and prints what happens to the requests. */
export async function demo({ upgrades, json }: DemoOptions): Promise<void> {
  const tally = new Tally();
  const print = json ? () => {} : writeText;
  try {
    await interruptible((signal) =>
      withService(signal, async (service) => {
        print(`A demo server runs at ${service.url}; ${Load.DESCRIPTION}.`);
        print();
        await run(service, tally, upgrades, json ?? false, signal);
      }),
    );
  } finally {
    // An interrupted demo prints what it has counted, too.
    const summary = tally.summary();
    if (json) writeJson({ answer: "demo", ...summary });
    else if (tally.requests > 0) writeLines(renderTable(summary).split("\n"));
  }
  requireSuccess(tally);
  print(paint("green", `none of ${count(tally.requests, "request")} failed`));
}

async function run(service: Service, tally: Tally, upgrades: number, json: boolean, signal: AbortSignal) {
  const load = new Load(service, tally);
  try {
    await tally.untilBusy(signal);
    for (let n = 1; n <= upgrades; n++) {
      const showing = setInterval(() => repaint(progress(tally, n - 1, upgrades)), 100);
      try {
        const upgrade = await service.upgrade((took) => tally.addUpgrade(took));
        if (json) writeJson({ upgrade: n, ...upgrade, requests: tally.requests, failed: tally.failed });
        else if (!process.stdout.isTTY) writeText(line(tally, n, upgrades, upgrade));
      } finally {
        clearInterval(showing);
      }
    }
    await load.finish();
    if (!json && !process.stdout.isTTY) writeText();
  } finally {
    repaint("");
    load.abort();
  }
}

function progress(tally: Tally, done: number, upgrades: number): string {
  const width = 20;
  const full = Math.round((done / upgrades) * width);
  const bar = paint("green", "█".repeat(full)) + paint("dim", "░".repeat(width - full));
  return `${bar} ${done} of ${count(upgrades, "upgrade")}, ${counts(tally)}`;
}

function line(tally: Tally, n: number, upgrades: number, { pid, generation, ms }: Upgrade): string {
  const who = `generation ${generation} (pid ${pid})`;
  return `upgrade ${n} of ${upgrades}: ${who} took over after ${duration(ms)}; ${counts(tally)}`;
}

type Upgrade = Awaited<ReturnType<Service["upgrade"]>>;

function counts({ requests, failed }: Tally): string {
  return `${count(requests, "request")}, ${failed} failed`;
}

function requireSuccess({ requests, failed }: Tally): void {
  if (failed > 0) throw new HandoverError("ERR_CONTROL", `${failed} of ${count(requests, "request")} failed`);
}
