/** Puts a property of its own before what an object inherits; `delete` takes it away again. */
export function shadow<T extends object, K extends keyof T>(object: T, name: K, value: T[K]): void {
  Object.defineProperty(object, name, { value, configurable: true, writable: true, enumerable: false });
}
