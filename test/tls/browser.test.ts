import { mkdirSync, writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import { Browser, CHROMIUM } from "../support/browser.js";
import { selfSigned } from "../support/client.js";
import { isMissing } from "../support/installed.js";
import { brief, Service } from "../support/service.js";

/** What the page shows in the end. Each run leaves it here. */
const PICTURE = "artifacts/browser.png";

test.skipIf(isMissing(CHROMIUM))(
  `a page keeps its connections over five upgrades, of fetch and of a WebSocket (${CHROMIUM})`,
  async () => {
    const identity = selfSigned();
    const service = Service.start("serves-page.js", { settings: { ...brief, ...identity } });
    const { port } = await service.until("accepting");
    const browser = await Browser.open(identity.cert);
    await browser.goTo(`https://127.0.0.1:${String(port)}/`);
    await browser.evaluate("reaches(0)");
    const moved: unknown[] = [];
    for (let generation = 1; generation <= 5; generation++) {
      await service.replace();
      await browser.evaluate(`reaches(${generation})`);
      const exit = await service.until("exit", { generation: generation - 1 });
      expect(exit).toMatchObject({ stayed: {}, destroyed: 0 });
      moved.push(exit["moved"]);
    }
    const generations = [0, 1, 2, 3, 4, 5];
    const fine = { bad: 0, closed: 0, byRequests: generations, bySocket: generations };
    expect(await browser.evaluate("finish()")).toMatchObject(fine);
    mkdirSync("artifacts", { recursive: true });
    writeFileSync(PICTURE, await browser.screenshot());
    const accepted = service.lines.filter(({ event }) => event === "connection");
    expect(accepted.filter(({ generation }) => generation > 0)).toEqual([]);
    // Those of the three loops and the WebSocket, and those that the browser has opened without need.
    expect(accepted.length).toBeGreaterThan(3);
    expect(moved).toEqual(moved.map(() => accepted.length));
  },
);
