import { beforeEach, describe, expect, test } from "vitest";
import type { UnitOwner } from "../../dist/errors.js";
import type { Directory, OwnResult } from "../../dist/exchange/directory.js";

/** A process that asks a directory. */
export interface Member {
  readonly directory: Directory;
  readonly name: UnitOwner;
  /** Ends it without a word. Resolves when its units are free. */
  die(): Promise<void>;
}

const fenceOf = (result: OwnResult | undefined): number => (result as { fence: number }).fence;

const own = async (member: Member, ...ids: string[]): Promise<readonly OwnResult[]> =>
  member.directory.own("room", ids);
const take = async (member: Member, from: Member, id: string): Promise<OwnResult> =>
  (await member.directory.own("room", [id], from.name))[0]!;
const disown = (member: Member, id: string, fence: number): void =>
  member.directory.disown("room", [{ id, fence }]);
const where = async (member: Member, id = "x"): Promise<UnitOwner | undefined> =>
  member.directory.where("room", id);

/** What every directory does. `open` makes a directory, and gives a function that lets processes join it. */
export function testDirectory(open: () => () => Member): void {
  describe("a directory", () => {
    let join!: () => Member;
    let a!: Member;
    let b!: Member;
    beforeEach(() => {
      join = open();
      a = join();
      b = join();
    });

    test("of twenty processes that ask for one unit at the same time one owns it, and the others learn which", async () => {
      const members = Array.from({ length: 20 }, join);
      for (let n = 0; n < 20; n++) {
        const answers = (await Promise.all(members.map(async (one) => own(one, `x${n}`)))).flat();
        const winners = members.filter((_, index) => "fence" in answers[index]!);
        expect(winners).toHaveLength(1);
        const others = answers.filter((answer) => "owner" in answer);
        expect(others).toEqual(Array.from({ length: 19 }, () => ({ owner: winners[0]!.name })));
      }
    });

    test("a unit of no process is unknown", async () => {
      expect(await where(a)).toBeUndefined();
      await own(b, "x");
      expect(await where(a)).toEqual(b.name);
      expect(await where(a, "y")).toBeUndefined();
      expect(await a.directory.where("other", "x")).toBeUndefined();
    });

    test("units of two kinds with one name are two units", async () => {
      await own(a, "x");
      const [other] = await b.directory.own("session", ["x"]);
      expect(other).toHaveProperty("fence");
    });

    test("a unit that is given up is free, and its next owner has a higher fence", async () => {
      const [first] = await own(a, "x");
      disown(a, "x", fenceOf(first));
      expect(await where(a)).toBeUndefined();
      const [second] = await own(b, "x");
      expect(fenceOf(second)).toBeGreaterThan(fenceOf(first));
      expect(await own(a, "x")).toEqual([{ owner: b.name }]);
    });

    test("a process that gives a unit up and one that asks for it at the same time leave it with one owner or none", async () => {
      for (let n = 0; n < 20; n++) {
        const id = `x${n}`;
        const [first] = await own(a, id);
        disown(a, id, fenceOf(first));
        const [answer] = await own(b, id);
        // Between hosts the database may not have heard of the former owner yet.
        await expect.poll(() => where(b, id)).toEqual("fence" in answer! ? b.name : undefined);
      }
    });

    test("the owner that asks again has a higher fence, and its earlier right is over", async () => {
      const [first] = await own(a, "x");
      const [second] = await own(a, "x");
      expect(fenceOf(second)).toBeGreaterThan(fenceOf(first));
      disown(a, "x", fenceOf(first));
      expect(await where(a)).toEqual(a.name);
      disown(a, "x", fenceOf(second));
      expect(await where(a)).toBeUndefined();
    });

    test("a process cannot give up the unit of another one", async () => {
      const [fence] = await own(a, "x");
      disown(b, "x", fenceOf(fence));
      expect(await where(b)).toEqual(a.name);
    });

    test("the units of a process that dies are free, and their fences grow", async () => {
      const [first] = await own(a, "x", "y");
      await a.die();
      expect(await where(b)).toBeUndefined();
      const [second] = await own(b, "x");
      expect(fenceOf(second)).toBeGreaterThan(fenceOf(first));
    });

    test("a process takes a unit that its owner offers, with a higher fence, and no other one does", async () => {
      const c = join();
      const [first] = await own(a, "x");
      expect(await take(c, b, "x")).toEqual({ owner: a.name });
      const second = await take(b, a, "x");
      expect(fenceOf(second)).toBeGreaterThan(fenceOf(first));
      expect(await take(c, a, "x")).toEqual({ owner: b.name });
      expect(await own(a, "x")).toEqual([{ owner: b.name }]);
      expect(await where(a)).toEqual(b.name);
    });

    test("a process that takes a unit whose owner died meanwhile has it, unless another one was faster", async () => {
      const c = join();
      await own(a, "x", "y");
      await a.die();
      await own(c, "y");
      expect(await take(b, a, "x")).toHaveProperty("fence");
      expect(await take(b, a, "y")).toEqual({ owner: c.name });
    });

    test("a thousand units with long names are asked for at once, and each is answered in its place", async () => {
      const ids = Array.from({ length: 1_000 }, (_, n) => `${n} ${"é\n".repeat(200)}`);
      const odd = ids.filter((_, n) => n % 2 === 1);
      await own(a, ...odd);
      const answers = await own(b, ...ids);
      expect(answers.filter((answer, n) => "owner" in answer !== (n % 2 === 1))).toEqual([]);
      expect(answers).toHaveLength(1_000);
    });
  });
}

/** What a directory does besides that remembers who has offered a unit. `open` is as for {@link testDirectory}. */
export function testReturns(open: () => () => Member): void {
  describe("a directory that remembers who has offered a unit", () => {
    let join!: () => Member;
    let a!: Member;
    let b!: Member;
    beforeEach(() => {
      join = open();
      a = join();
      b = join();
    });

    test("a unit goes back to the process that has offered it, if the one that has taken it gives it up", async () => {
      const c = join();
      await own(a, "x");
      disown(b, "x", fenceOf(await take(b, a, "x")));
      await where(b);
      expect(await own(c, "x")).toEqual([{ owner: a.name }]);
    });

    test("a unit goes back to the process that has offered it, if the one that has taken it dies", async () => {
      const c = join();
      await own(a, "x");
      const second = await take(b, a, "x");
      await b.die();
      expect(await own(c, "x")).toEqual([{ owner: a.name }]);
      expect(fenceOf((await own(a, "x"))[0])).toBeGreaterThan(fenceOf(second));
    });

    test("a unit does not go back to a process that has given it up since", async () => {
      const [first] = await own(a, "x");
      const second = await take(b, a, "x");
      disown(a, "x", fenceOf(first));
      expect(await where(a)).toEqual(b.name);
      disown(b, "x", fenceOf(second));
      expect(await where(b)).toBeUndefined();
    });

    test("a unit does not go back to a process that has died since", async () => {
      await own(a, "x");
      const second = await take(b, a, "x");
      await a.die();
      expect(await where(b)).toEqual(b.name);
      disown(b, "x", fenceOf(second));
      expect(await where(b)).toBeUndefined();
    });
  });
}
