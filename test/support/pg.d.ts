/** The members of `pg` that tests use: the package has no types of its own. */
declare module "pg" {
  export class Client {
    constructor(options: object);
    connect(): Promise<void>;
    query(text: string, values?: unknown[]): Promise<{ rows: Record<string, unknown>[] }>;
    on(event: string, listener: (...args: never[]) => void): this;
    end(): Promise<void>;
  }
  export class Pool {
    constructor(options: object);
    connect(): Promise<import("../../dist/postgres/index.js").ClientLike>;
    on(event: string, listener: (...args: never[]) => void): this;
    end(): Promise<void>;
  }
}
