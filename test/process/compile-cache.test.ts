import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import module from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import {
  prepareCompileCache,
  withCompileCache,
  withoutCompileCache,
} from "../../dist/process/compile-cache.js";
import { Auto } from "../support/auto.js";
import { asRoot, isSkipped } from "../support/root.js";
import { brief, Service } from "../support/service.js";

const hasCache = "enableCompileCache" in module;

/** A directory that only this user can write to. */
function privateDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), "handover-"));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

test("the environment of a successor names the cache, and that of the next one does not name it twice", () => {
  const cache = realpathSync(privateDirectory());
  const env = withCompileCache({ A: "1" }, cache);
  expect(env).toEqual({ A: "1", NODE_COMPILE_CACHE: cache, HANDOVER_CACHE_ADDED: "1" });
  expect(withoutCompileCache(env)).toEqual({ A: "1" });
  expect(withCompileCache({ A: "1" }, undefined)).toEqual({ A: "1" });
});

test("a program that has a compile cache of its own keeps it", () => {
  const own = { NODE_COMPILE_CACHE: "/own" };
  expect(withCompileCache(own, "/cache")).toEqual(own);
  expect(withoutCompileCache(own)).toEqual(own);
});

test("the environment of a successor names no symlink, which another user may replace after the check", () => {
  const directory = realpathSync(privateDirectory());
  const link = join(directory, "link");
  mkdirSync(join(directory, "cache"), { mode: 0o700 });
  symlinkSync(join(directory, "cache"), link);
  expect(withCompileCache({}, link)).toMatchObject({ NODE_COMPILE_CACHE: join(directory, "cache") });
});

test("a program under handover/auto has the cache that HANDOVER_COMPILE_CACHE names, in every generation", async () => {
  const directory = join(privateDirectory(), "cache");
  const auto = await Auto.start("server.mjs", { env: { HANDOVER_COMPILE_CACHE: directory } });
  await auto.service.until("listening");
  for (let n = 0; n < 2; n++) {
    expect(existsSync(directory)).toBe(true);
    rmSync(directory, { recursive: true });
    await auto.upgrade();
  }
  expect(existsSync(directory)).toBe(true);
});

test("an upgrade is refused if others can write to the directory by now", async () => {
  const compileCache = join(privateDirectory(), "cache");
  const service = Service.start("caches-code.js", { settings: { compileCache, ...brief } });
  await service.until("accepting");
  // As somebody could do in /tmp, where a directory that is old is removed.
  renameSync(compileCache, `${compileCache}-before`);
  mkdirSync(compileCache);
  chmodSync(compileCache, 0o777);
  expect(await service.upgrade("failed")).toMatchObject({
    code: "ERR_OPTION",
    message: expect.stringMatching(/cache has mode 777, so others can write to it$/),
  });
  expect(readdirSync(compileCache)).toEqual([]);
  chmodSync(compileCache, 0o700);
  expect(await service.upgrade()).toMatchObject({ generation: 1 });
});

describe("the directory of the compile cache", () => {
  test("is made with mode 0700, and those above it", () => {
    const directory = join(privateDirectory(), "a", "b");
    prepareCompileCache(directory);
    expect([directory, join(directory, "..")].map((one) => statSync(one).mode & 0o777)).toEqual([
      0o700, 0o700,
    ]);
    prepareCompileCache(directory);
  });

  test.each([0o770, 0o707])("is refused if it has mode %o", (mode) => {
    const directory = privateDirectory();
    chmodSync(directory, mode);
    expect(() => prepareCompileCache(directory)).toThrow(
      expect.objectContaining({
        code: "ERR_OPTION",
        message:
          `cannot use ${directory} for the option "compileCache": ` +
          `${directory} has mode ${mode.toString(8)}, so others can write to it`,
      }),
    );
  });

  test("is refused if others can replace a directory above it", () => {
    const directory = join(privateDirectory(), "open", "cache");
    mkdirSync(directory, { recursive: true });
    chmodSync(join(directory, ".."), 0o777);
    expect(() => prepareCompileCache(directory)).toThrow(/open has mode 777, so others can write to it$/);
    chmodSync(join(directory, ".."), 0o1777);
    prepareCompileCache(directory);
  });

  test.skipIf(isSkipped)(`is refused if it belongs to another user${asRoot}`, () => {
    const directory = privateDirectory();
    chownSync(directory, 12_345, 12_345);
    expect(() => prepareCompileCache(directory)).toThrow(/belongs to uid 12345$/);
  });

  test("is refused if it cannot be made", () => {
    const file = join(privateDirectory(), "file");
    writeFileSync(file, "");
    expect(() => prepareCompileCache(join(file, "cache"))).toThrow(
      /^cannot use \/.*\/file\/cache for the option "compileCache": ENOTDIR/,
    );
  });
});

test.skipIf(!hasCache)(
  "successors keep and find compiled code, and programs that they start do not (needs Node 22)",
  async () => {
    const compileCache = join(privateDirectory(), "cache");
    const service = Service.start("caches-code.js", { settings: { compileCache, ...brief } });
    expect(await service.until("accepting")).toMatchObject({ cache: null });
    const nothing = { variable: null, mark: null };
    for (const generation of [1, 2]) {
      const { cache } = await service.replace();
      expect(service.accepting).toMatchObject({ generation, ...nothing });
      expect(cache).toMatch(new RegExp(`^${compileCache}/v`));
      await expect.poll(() => readdirSync(cache as string).length).toBeGreaterThan(1);
    }
    expect(service.noise).toBe("");
  },
);

test.skipIf(hasCache)(
  "a Node without a compile cache says so once, and upgrades as before (needs Node 20)",
  async () => {
    const compileCache = join(privateDirectory(), "cache");
    const service = Service.start("caches-code.js", { settings: { compileCache, ...brief } });
    await service.replace();
    expect(service.noise.match(/HANDOVER_NO_COMPILE_CACHE/g)).toHaveLength(1);
    expect(existsSync(join(compileCache, process.version))).toBe(false);
  },
);
