/** What the supervisor has to do so that each connection reaches a worker that accepts. */
export interface SteeringPlan {
  /**
   * The positions in the kernel's group that new connections are steered to, in growing order. Undefined if no worker
   * accepts: the kernel's hash keeps choosing, and connections wait in the queues.
   */
  readonly steer?: readonly number[];
  /** Loans that end, before others begin. A worker that is dead cannot be told: it has no descriptor any longer. */
  readonly unlend: readonly Loan[];
  readonly lend: readonly Loan[];
}

/** The members in the kernel's order, and the loans. */
export interface SteeringState {
  readonly group: readonly number[];
  readonly loans: readonly Loan[];
}

/** One member whose queue another worker empties. */
export interface Loan {
  readonly member: number;
  /** The index of the worker that has the loan. */
  readonly to: number;
}

/**
 * The sockets of one listener: one member for each index, in one reuse-port group of the kernel. A member whose worker does
 * not accept gets no new connections, and is lent to a worker that accepts, for those that wait in its queue. The loans are
 * spread evenly. This class decides only; the caller changes it, and then runs the plan.
 */
export class Steering {
  /**
   * The members in the kernel's order, which the filter counts in: the order of listen(2). Where one is closed the last takes
   * its place.
   */
  readonly #group: number[] = [];
  /** The members whose worker has this listener open, and accepts. */
  readonly #accepting = new Set<number>();
  #loans: Loans = new Map();
  /**
   * Loans that ended since the last plan, because the member was closed or the worker stopped accepting. Before the next plan
   * another process or another socket may have the index again, and would be taken for the one that had the loan.
   */
  #ended: Loan[] = [];

  /** For {@link restore}. */
  get state(): SteeringState {
    return { group: this.#group, loans: listed(this.#loans) };
  }

  restore({ group, loans }: SteeringState): void {
    this.#group.push(...group);
    for (const { member, to } of loans) {
      this.#loans.set(member, to);
      this.#accepting.add(to);
    }
  }

  /** The member of a new index listens. Its worker does not accept yet. */
  add(index: number): void {
    if (!this.#group.includes(index)) this.#group.push(index);
  }

  /** The members in the kernel's order. */
  get order(): readonly number[] {
    return this.#group;
  }

  /** The member is closed. */
  remove(index: number): void {
    const position = this.#group.indexOf(index);
    if (position < 0) return;
    const last = this.#group.pop()!;
    if (last !== index) this.#group[position] = last;
    this.setAccepting(index, false);
    this.#end((loan) => loan.member === index);
  }

  /** Whether the worker of a member accepts: one that is dead, hangs or has closed the listener does not. */
  setAccepting(index: number, isAccepting: boolean): void {
    if (isAccepting && this.#group.includes(index)) {
      this.#accepting.add(index);
    } else {
      this.#accepting.delete(index);
      this.#end((loan) => loan.to === index);
    }
  }

  /** What has to change since the last plan. */
  plan(): SteeringPlan {
    const before = this.#loans;
    const after = this.#evenLoans();
    const ended = this.#ended;
    this.#loans = after;
    this.#ended = [];
    const steer = [...this.#group.keys()].filter((position) => this.#accepting.has(this.#group[position]!));
    return {
      ...(steer.length > 0 && { steer }),
      unlend: [...ended, ...missingIn(after, before)],
      lend: missingIn(before, after),
    };
  }

  #end(isOver: (loan: Loan) => boolean): void {
    const over = listed(this.#loans).filter(isOver);
    for (const { member } of over) this.#loans.delete(member);
    this.#ended.push(...over);
  }

  /** Each loan that can stay does, unless the worker has more than its share: a loan that moves is work for two workers. */
  #evenLoans(): Loans {
    const loads = new Map([...this.#accepting].map((index) => [index, 0]));
    const members = this.#group.filter((member) => !this.#accepting.has(member));
    const share = Math.ceil(members.length / loads.size);
    const loans: Loans = new Map();
    const lend = (member: number, to: number): void => {
      loans.set(member, to);
      loads.set(to, loads.get(to)! + 1);
    };
    for (const member of members) {
      const to = this.#loans.get(member);
      if (to !== undefined && loads.get(to)! < share) lend(member, to);
    }
    for (const member of members) {
      if (loads.size > 0 && !loans.has(member)) lend(member, leastLoaded(loads));
    }
    return loans;
  }
}

/** The index of the worker that has the loan, by member. */
type Loans = Map<number, number>;

/** The loans of `all` that are not among `others`. */
function missingIn(others: Loans, all: Loans): Loan[] {
  return listed(all).filter(({ member, to }) => others.get(member) !== to);
}

function listed(loans: Loans): Loan[] {
  return [...loans].map(([member, to]) => ({ member, to }));
}

function leastLoaded(loads: ReadonlyMap<number, number>): number {
  return [...loads].reduce((one, other) => (other[1] < one[1] ? other : one))[0];
}
