import { readFileSync } from "node:fs";
import { expect, test } from "vitest";

interface Block {
  language: string;
  text: string;
  line: number;
}

/** A page of the documentation, and its blocks of code, each of which a test has to claim. */
export class Page {
  readonly text: string;
  readonly #blocks: Block[];
  readonly #claimed = new Set<Block>();

  /**
   * Adds a test that every block is claimed. Claim blocks while the file is collected, not inside of tests.
   *
   * @param name of a page in `docs/`, or a path that ends with `.md`
   */
  static open(name: string): Page {
    const path = name.endsWith(".md") ? name : `docs/${name}.md`;
    const page = new Page(path);
    test(`a test claims every block of ${path}`, () => {
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

  /** The text of the one block of this language that contains this part. */
  block(language: string, part = ""): string {
    const found = this.#blocks.filter((one) => one.language === language && one.text.includes(part));
    if (found.length !== 1) throw new Error(`${found.length} blocks of ${language} with ${part}`);
    this.#claimed.add(found[0]!);
    return found[0]!.text;
  }

  /** The texts of all blocks of this language. */
  blocks(language: string): string[] {
    const found = this.#blocks.filter((one) => one.language === language);
    for (const one of found) this.#claimed.add(one);
    return found.map(({ text }) => text);
  }

  /** The headings of this level, without code marks. */
  headings(level: number): string[] {
    const prose = this.text.replaceAll(/^```[^]*?^```$/gm, "");
    return [...prose.matchAll(new RegExp(`^#{${level}} (.*)$`, "gm"))].map(([, text]) =>
      text!.replaceAll("`", ""),
    );
  }

  /** The names in the first cells of the tables' rows: `name(…)` is one, and a cell may have several. */
  rowNames(): string[] {
    return [...this.text.matchAll(/^\| ((?:`[^`|]+`(?:, )?)+) *\|/gm)].flatMap(([, cell]) =>
      [...cell!.matchAll(/`(\w+)/g)].map(([, name]) => name!),
    );
  }
}
