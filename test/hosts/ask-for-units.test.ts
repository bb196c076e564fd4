import { describe, expect, test } from "vitest";
import { askForUnits } from "../../dist/hosts/ask-for-units.js";

const NEIGHBOR = { pid: 7, generation: 1, host: "b" };
const away = (): Error => new Error("away");

describe("askForUnits()", () => {
  test("asks for a unit once that is named twice, and answers in the order of the names", async () => {
    const answer = askForUnits(["b", "a", "b"], async (left, owners) => {
      for (const [n, id] of left.entries()) owners.set(id, id === "a" ? NEIGHBOR : n);
    });
    expect(await answer).toEqual([0, NEIGHBOR, 0]);
  });

  test("asks again, ten times at most, for a unit that is given up meanwhile", async () => {
    const asked: (readonly string[])[] = [];
    const answer = askForUnits(["a", "b"], async (left, owners) => {
      asked.push(left);
      owners.set("a", 1);
    });
    await expect(answer).rejects.toMatchObject({
      code: "ERR_EXCHANGE",
      message: 'the owner of the unit "b" changes all the time',
    });
    expect(asked).toEqual([["a", "b"], ...Array.from({ length: 9 }, () => ["b"])]);
  });

  test("marks an error as ambiguous once a unit has an owner, as the seat may own that one", async () => {
    const answer = askForUnits(["a"], async (_, owners) => {
      owners.set("a", 1);
      throw away();
    });
    await expect(answer).rejects.toHaveProperty("isAmbiguous", true);
  });

  test("leaves an error as it is if no unit has an owner yet", async () => {
    const answer = askForUnits(["a"], async () => {
      throw away();
    });
    await expect(answer).rejects.not.toHaveProperty("isAmbiguous");
  });
});
