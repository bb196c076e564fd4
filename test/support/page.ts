import { readFileSync } from "node:fs";
import { expect, test } from "vitest";

interface Block {
  language: string;
  text: string;
  line: number;
}

/** One page of `docs/`, and the blocks of code on it, each of which a test has to claim. */
export class Page {
  readonly text: string;
  readonly #blocks: Block[];
  readonly #claimed = new Set<Block>();

  /** Adds a test that no block is left over; claim them where the file is collected, not inside of tests. */
  static open(name: string): Page {
    const page = new Page(`docs/${name}.md`);
    test(`every block of docs/${name}.md is claimed by a test`, () => {
      const left = page.#blocks.filter((block) => !page.#claimed.has(block));
      expect(left.map(({ line, text }) => `${line}: ${text.split("\n")[0]}`)).toEqual([]);
    });
    return page;
  }

  private constructor(path: string) {
    this.text = readFileSync(path, "utf8");
    this.#blocks = [...this.text.matchAll(/^```(\w*)\n([^]*?)^```$/gm)].map((match) => ({
      language: match[1]!,
      text: match[2]!,
      line: this.text.slice(0, match.index).split("\n").length + 1,
    }));
  }

  /** The text of the one block of this language in which this occurs. */
  block(language: string, part = ""): string {
    const found = this.#blocks.filter((one) => one.language === language && one.text.includes(part));
    if (found.length !== 1) throw new Error(`${found.length} blocks of ${language} with ${part}`);
    this.#claimed.add(found[0]!);
    return found[0]!.text;
  }

  /** All of a language. */
  blocks(language: string): string[] {
    const found = this.#blocks.filter((one) => one.language === language);
    for (const one of found) this.#claimed.add(one);
    return found.map(({ text }) => text);
  }
}
