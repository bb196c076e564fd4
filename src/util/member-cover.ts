/**
 * Members that cover those of objects for a while. They are in an object between each one and its prototype: if thousands of
 * sockets got members of their own, all of them would have to grow, and the copies would outlive a garbage collection.
 */
export class MemberCover<T extends object> {
  readonly #members: Partial<T>;
  /** By the prototype that each covers. */
  readonly #covers = new WeakMap<object, T>();
  /** By its cover. */
  readonly #prototypes = new WeakMap<object, T>();
  /** The covered members that an object has itself, as some programs wrap those of each socket. */
  readonly #own = new WeakMap<T, Partial<T>>();

  constructor(members: Partial<T>) {
    this.#members = members;
  }

  cover(object: T): void {
    for (const name in this.#members) if (Object.hasOwn(object, name)) this.#coverOwn(object, name);
    Object.setPrototypeOf(object, this.#coverOf(Object.getPrototypeOf(object) as T));
  }

  /** Undoes {@link cover}. A member that the program has given the object meanwhile stays. */
  uncover(object: T): void {
    if (!this.isOn(object)) return;
    Object.setPrototypeOf(object, this.inherited(object));
    const own = this.#own.get(object);
    if (own === undefined) return;
    this.#own.delete(object);
    for (const name in own) if (object[name] === this.#members[name]) object[name] = own[name]!;
  }

  isOn(object: T): boolean {
    return this.#prototypes.has(Object.getPrototypeOf(object) as T);
  }

  /** The prototype of an object, covered or not. */
  inherited(object: T): T {
    const prototype = Object.getPrototypeOf(object) as T;
    return this.#prototypes.get(prototype) ?? prototype;
  }

  #coverOf(prototype: T): T {
    let cover = this.#covers.get(prototype);
    if (cover === undefined) {
      cover = Object.assign(Object.create(prototype) as T, this.#members);
      this.#covers.set(prototype, cover);
      this.#prototypes.set(cover, prototype);
    }
    return cover;
  }

  #coverOwn(object: T, name: keyof T): void {
    const own: Partial<T> = this.#own.get(object) ?? {};
    own[name] = object[name];
    this.#own.set(object, own);
    object[name] = this.#members[name]!;
  }
}
