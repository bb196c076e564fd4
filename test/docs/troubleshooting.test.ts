import { describe, expect, test } from "vitest";
import { Page } from "../support/page.js";
import { Sandbox } from "../support/sandbox.js";

const page = Page.open("troubleshooting");
const [look, watch, debug] = page.blocks("sh");

describe.skipIf(Sandbox.missing)(`a host of its own${Sandbox.why}`, () => {
  test("runs the commands of docs/troubleshooting.md, which show what a service does", async () => {
    const sandbox = await Sandbox.start();
    await sandbox.write("/srv/package.json", '{ "type": "module" }');
    await sandbox.write("/srv/server.js", SERVER);
    await sandbox.run(`${debug!.trim()} 2>/srv/log & until [ -e /run/app/app.pid ]; do :; done`);
    expect(await sandbox.run(look!)).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^state +ready$[^]*^dry run passed: /m) as string,
    });
    const follow =
      `${watch!.trim()} >/srv/seen & watching=$!; until grep -qs "generation *0" /srv/seen; do :; done; ` +
      "handover upgrade --pid-file /run/app/app.pid; " +
      'until grep -q "generation *1" /srv/seen; do :; done; kill -INT $watching; wait $watching';
    expect(await sandbox.run(follow)).toMatchObject({ code: 0, stderr: "" });
    expect((await sandbox.run("cat /srv/log")).stdout).toMatch(/^HANDOVER \d+: upgraded \{/m);
  });
});

const SERVER = `import { createServer } from "node:http";
import { Upgrader } from "handover";
const upg = new Upgrader({ pidFile: "/run/app/app.pid", probation: 300 });
await upg.listen(createServer((request, response) => response.end("hello\\n")), { port: 8080 });
await upg.ready();
await upg.exit;
`;
