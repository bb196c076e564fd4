import type {
  CommitEffect,
  CommitEvent,
  CommitPhase,
  CommitPlan,
  CommitState,
  CommitStep,
  CommitUndone,
} from "../../dist/supervisor/commit-types.js";
import { beginCommit, stepCommit } from "../../dist/supervisor/commit.js";
import { newRoleHolder } from "../../dist/supervisor/role-holder.js";
import { Dice } from "./dice.js";
import { SimulatedWorker, type Order } from "./simulated-worker.js";

/** How much goes wrong in one run. */
export interface BadLuck {
  seed: number;
  /** Workers that die or hang for no reason. */
  faults: number;
  /** Of a hundred messages, how many are lost; as many come twice. */
  lost: number;
  /** Of a hundred choices, how many let the timer run out while an answer is on its way. */
  hasty: number;
  /** Whether the caller aborts the upgrade at some moment. */
  aborts: boolean;
}

/**
 * One upgrade of simulated workers, which lose messages, answer late and twice, hang and die. The driver runs the effects of
 * the table, and tells it what happens. After each step the promises of the table are checked.
 */
export class SimulatedUpgrade {
  readonly plan: CommitPlan;
  readonly effects: CommitEffect[] = [];
  readonly #luck: BadLuck;
  readonly #dice: Dice;
  readonly #olds = new Map<number, SimulatedWorker>();
  readonly #news = new Map<number, SimulatedWorker>();
  /** What is on its way to the driver, in no order. */
  readonly #mail: CommitEvent[] = [];
  readonly #oldHolder: number | undefined;
  #newHolder: number | undefined;
  #state: CommitState;
  #timer: CommitPhase | undefined;
  /** The driver has told the table of a fault that no upgrade may survive. */
  #mustFail = false;
  #faults: number;
  /** For each old worker: the timers that were set since the last moment at which its connections were accepted. */
  readonly #outages = new Map<number, number>();

  constructor(plan: CommitPlan, luck: BadLuck) {
    this.plan = plan;
    this.#luck = luck;
    this.#dice = new Dice(luck.seed);
    this.#faults = luck.faults;
    for (const index of plan.olds) this.#olds.set(index, new SimulatedWorker(index, true));
    if (plan.staged) for (const index of plan.news) this.#news.set(index, new SimulatedWorker(index, false));
    this.#oldHolder = plan.olds.length > 0 ? this.#dice.pick(plan.olds) : undefined;
    if (this.#oldHolder !== undefined) this.#olds.get(this.#oldHolder)!.holdsRoles = true;
    const begun = beginCommit(plan);
    this.#state = begun.state;
    this.#run(begun);
  }

  get end(): CommitEffect {
    return this.effects.at(-1)!;
  }

  /** Runs to the end of the upgrade and of all that is on its way. */
  run(): this {
    for (let n = 0; this.#state.phase !== "ended"; n++) {
      if (n > 5_000) throw this.#broken("does not end");
      if (this.#timer === undefined) throw this.#broken("waits without a timer");
      this.#act();
    }
    const { length } = this.effects;
    this.#faults = 0;
    while (this.#turn()) this.#check();
    if (this.effects.length > length) throw this.#broken("has effects after its end");
    this.#checkEnd();
    return this;
  }

  /** One thing that happens. */
  #act(): void {
    if (this.#faults > 0 && this.#dice.percent(5)) this.#fail();
    else if (this.#luck.aborts && this.#dice.percent(2)) this.#abort();
    else if (this.#mayExpire() && this.#dice.percent(this.#luck.hasty)) this.#expire();
    else if (!this.#turn()) this.#expire();
    this.#check();
  }

  /** A worker follows an order or dies of a kill, or the driver reads an event. False if nothing is on its way. */
  #turn(): boolean {
    const turns: (() => void)[] = [];
    for (const worker of this.#workers) {
      if (worker.isTurning && worker.inbox.length > 0) turns.push(() => this.#follow(worker));
      if (worker.isKilled && worker.lives && !worker.isStuck) turns.push(() => this.#die(worker));
    }
    for (const event of this.#mail) turns.push(() => this.#deliver(event));
    if (turns.length === 0) return false;
    this.#dice.pick(turns)();
    return true;
  }

  get #workers(): SimulatedWorker[] {
    return [...this.#olds.values(), ...this.#news.values()];
  }

  #isOld(worker: SimulatedWorker): boolean {
    return this.#olds.get(worker.index) === worker;
  }

  #follow(worker: SimulatedWorker): void {
    const { order, withRoles } = worker.inbox.shift()!;
    const { index } = worker;
    switch (order) {
      case "initialize":
        return this.#send({ type: "workerReady", index });
      case "yield": {
        const failed = this.#dice.percent(this.#luck.lost);
        if (!failed) worker.holdsRoles = false;
        return this.#send({ type: "yielded", index, failed });
      }
      case "cease":
        worker.accepts = false;
        return this.#send({ type: "ceased", index });
      default:
        worker.accepts = true;
        worker.holdsRoles ||= withRoles;
        if (order === "commit") worker.hasAcknowledged = true;
        return this.#send({ type: order === "commit" ? "acknowledged" : "resumed", index });
    }
  }

  #send(event: CommitEvent): void {
    if (!this.#dice.percent(this.#luck.lost)) this.#mail.push(event);
    if (this.#dice.percent(this.#luck.lost)) this.#mail.push(event);
  }

  #order(worker: SimulatedWorker, order: Order, withRoles = false): void {
    if (!this.#dice.percent(this.#luck.lost)) worker.inbox.push({ order, withRoles });
  }

  #fail(): void {
    this.#faults--;
    const worker = this.#dice.pick(this.#workers);
    if (!worker.lives) return;
    if (this.#dice.percent(60)) this.#die(worker);
    else worker.hangs = !worker.hangs;
  }

  /** A death is always told, some time later: the channel ends. */
  #die(worker: SimulatedWorker): void {
    worker.lives = false;
    this.#mail.push({ type: this.#isOld(worker) ? "oldDied" : "newDied", index: worker.index });
  }

  #abort(): void {
    this.#step({ type: "abort", code: this.#dice.percent(50) ? "ERR_ABORTED" : "ERR_STOPPED" });
  }

  #deliver(event: CommitEvent): void {
    this.#mail.splice(this.#mail.indexOf(event), 1);
    // What an old worker sent before its death means nothing after it: its roles are free.
    const cannotYield =
      event.type === "yielded" && event.failed && !this.#state.deadOlds.includes(event.index);
    const isFault = event.type === "newDied" || cannotYield;
    if (isFault && this.#state.phase !== "ended") this.#mustFail = true;
    this.#step(event);
  }

  /** A kill takes less time than its timer, unless the worker is stuck in the kernel. */
  #mayExpire(): boolean {
    return this.#timer !== "killing" || [...this.#news.values()].every((one) => !one.lives || one.isStuck);
  }

  #expire(): void {
    const phase = this.#timer!;
    const silent = [...this.#news.values()].find((worker) => worker.hangs && worker.lives);
    if (phase === "yielding" && this.#dice.percent(20))
      this.#step({ type: "oldHung", index: this.#dice.pick(this.plan.olds) });
    else if (phase !== "probation") this.#step({ type: "timeout", phase });
    else if (silent === undefined) this.#step({ type: "probationOver" });
    else {
      this.#mustFail = true;
      this.#step({ type: "newHung", index: silent.index });
    }
  }

  #step(event: CommitEvent): void {
    const step = stepCommit(this.#state, event);
    this.#state = step.state;
    this.#run(step);
  }

  #run({ effects }: CommitStep): void {
    for (const effect of effects) {
      this.effects.push(effect);
      this.#runOne(effect);
    }
  }

  #runOne(effect: CommitEffect): void {
    switch (effect.type) {
      case "start":
        for (const index of effect.indexes) {
          if (this.#news.has(index)) throw this.#broken("starts a worker twice");
          this.#news.set(index, new SimulatedWorker(index, false));
          this.#order(this.#news.get(index)!, "initialize");
        }
        return;
      case "yield":
      case "cease":
        for (const index of effect.indexes) this.#order(this.#olds.get(index)!, effect.type);
        return;
      case "commit":
        this.#newHolder ??= newRoleHolder(this.#oldHolder, effect.indexes);
        for (const index of effect.indexes) {
          this.#order(this.#news.get(index)!, "commit", index === this.#newHolder);
        }
        return;
      case "resume":
        for (const index of effect.indexes) {
          this.#order(this.#olds.get(index)!, "resume", index === this.#holderAgain(effect.indexes));
        }
        return;
      case "kill":
        for (const index of effect.indexes) {
          const worker = this.#news.get(index)!;
          worker.isKilled = true;
          worker.isStuck = worker.lives && this.#dice.percent(this.#luck.lost / 2);
        }
        return;
      case "setTimer":
        this.#timer = effect.phase;
        this.#countOutages();
        return;
      case "clearTimer":
        this.#timer = undefined;
        return;
      default:
    }
  }

  /** The old worker that held the roles, if it lives; else another one that is told to accept again. */
  #holderAgain(resumed: readonly number[]): number | undefined {
    const holder = this.#oldHolder!;
    return this.#state.deadOlds.includes(holder) ? Math.min(...resumed) : holder;
  }

  #countOutages(): void {
    for (const [index, old] of this.#olds) {
      if (!old.lives) continue;
      const partner = this.#news.get(index);
      const isUnknown = this.#mail.some((one) => one.type === "newDied" && one.index === index);
      if (old.isAccepting || partner?.isAccepting || isUnknown) this.#outages.set(index, 0);
      else this.#outages.set(index, (this.#outages.get(index) ?? 0) + 1);
      if (this.#outages.get(index)! > 3) throw this.#broken(`leaves index ${index} alone for too long`);
    }
  }

  #check(): void {
    const isOldAccepting = [...this.#olds.values()].some((worker) => worker.isAccepting);
    const isNewAccepting = [...this.#news.values()].some((worker) => worker.isAccepting);
    if (isOldAccepting && isNewAccepting) throw this.#broken("lets two generations accept");
    if (this.#workers.filter((worker) => worker.isHolding).length > 1)
      throw this.#broken("gives roles twice");
  }

  #checkEnd(): void {
    if (this.#timer !== undefined) throw this.#broken("leaves a timer");
    const ends = this.effects.filter(({ type }) =>
      ["done", "orphaned", "failed", "rolledBack"].includes(type),
    );
    if (ends.length !== 1 || ends[0] !== this.end) throw this.#broken("ends twice");
    if (this.end.type === "done") this.#checkDone();
    else if (this.end.type === "orphaned") this.#checkOrphaned();
    else this.#checkUndone(this.end as CommitUndone);
  }

  #checkDone(): void {
    if (this.#mustFail) throw this.#broken("is done in spite of a fault");
    if ([...this.#olds.values()].some((old) => old.isAccepting)) throw this.#broken("leaves an old worker");
    for (const index of this.plan.news) {
      const worker = this.#news.get(index)!;
      if (!worker.hasAcknowledged) throw this.#broken("is done without an acknowledgement");
      if (worker.lives && !worker.accepts) throw this.#broken("is done without an acceptor");
    }
    for (const [index, old] of this.#olds) {
      const times = this.effects.filter((one) => one.type === "retire" && one.index === index).length;
      if (times > 1 || (times === 0 && old.lives)) throw this.#broken(`retires a worker ${times} times`);
    }
    this.#checkHolder(this.#news);
  }

  #checkOrphaned(): void {
    if ([...this.#olds.values()].some((old) => old.lives)) throw this.#broken("takes a worker for dead");
    if ([...this.#news.values()].some((one) => one.isKilled))
      throw this.#broken("kills a worker that has to serve");
  }

  #checkUndone({ type, dead, silent, unkillable }: CommitUndone): void {
    const hasCommitted = this.effects.some((effect) => effect.type === "commit");
    if (hasCommitted !== (type === "rolledBack")) throw this.#broken("names its end wrongly");
    for (const [index, worker] of this.#news) {
      if (!worker.lives) continue;
      if (!worker.isStuck || !unkillable.includes(index)) throw this.#broken("leaves a new worker");
    }
    for (const [index, old] of this.#olds) {
      if (dead.includes(index) && old.lives) throw this.#broken("takes a worker for dead");
      const isExcused = !old.lives || old.hangs || silent.includes(index);
      if (!isExcused && !old.accepts) throw this.#broken("leaves an old worker that does not accept");
    }
    if (silent.length === 0) this.#checkHolder(this.#olds);
  }

  /** Unless one of them has died or hangs, one of the workers holds the roles. */
  #checkHolder(workers: ReadonlyMap<number, SimulatedWorker>): void {
    const all = [...workers.values()];
    if (all.length === 0 || all.some((worker) => !worker.isTurning)) return;
    if (!all.some((worker) => worker.holdsRoles)) throw this.#broken("leaves the roles to none");
  }

  #broken(what: string): Error {
    const log = this.effects.map((effect) => JSON.stringify(effect)).join("\n");
    return new Error(`the upgrade ${what}, in the phase ${this.#state.phase}, after\n${log}`);
  }
}
