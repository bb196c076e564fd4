export type Order = "initialize" | "yield" | "cease" | "commit" | "resume";

/** A worker that does what it is told, in order, some time later. */
export class SimulatedWorker {
  readonly index: number;
  readonly inbox: { order: Order; withRoles: boolean }[] = [];
  lives = true;
  hangs = false;
  /** Killed, in a system call that the kernel cannot end: it runs no code, and is not dead. */
  isStuck = false;
  isKilled = false;
  hasAcknowledged = false;
  accepts: boolean;
  holdsRoles = false;

  constructor(index: number, accepts: boolean) {
    this.index = index;
    this.accepts = accepts;
  }

  get isAccepting(): boolean {
    return this.accepts && this.lives && !this.isStuck;
  }

  get isHolding(): boolean {
    return this.holdsRoles && this.lives && !this.isStuck;
  }

  get isTurning(): boolean {
    return this.lives && !this.hangs && !this.isStuck;
  }
}
