import type { Message, Operation } from "../channel/messages.js";
import { answerProbe } from "../connections/probe.js";
import type { HandoverError } from "../errors.js";
import type { Departure, Rehearsal, Staged, UpgradeRecord, UpgradeResult } from "../events.js";
import type { EngineReport } from "../exchange/hosts.js";
import { prepareDigest } from "../exchange/memory-file.js";
import type { Peer } from "../exchange/parcel.js";
import { acceptPhase, isConfirmed, type Event } from "../lifecycle.js";
import { ExchangeLink } from "../process/exchange-link.js";
import { DEFAULTS, type Settings } from "../options.js";
import type { SupervisorLink, SupervisorListener } from "../process/supervisor-link.js";
import { Channel } from "../channel/channel.js";
import { native } from "../platform/native.js";
import { Predecessor, type DrainProgress, type PredecessorListener } from "../process/predecessor.js";
import type { ProcessContext } from "./context.js";
import type { Startup } from "./startup.js";
import { Rebalance } from "./rebalance.js";
import type { Succession } from "./succession.js";
import { assertManaged } from "./upgrade-checks.js";
import { WorkerTakeover } from "./worker-takeover.js";

/** The generation that drives this process. */
interface WorkerHost {
  readonly startup: Startup;
  dispatch(event: Event): void;
  /** Resolves when the event has run; undefined if it has run in this turn. */
  request(event: Event): Promise<void> | undefined;
  /** The successor accepts from now on: this process stops accepting in this turn. */
  replace(takeover: Succession): void;
  progress(): DrainProgress;
  exitFromRehearsal(): void;
}

/**
 * A process under a supervisor. The supervisor drives its upgrades, together with those of the other workers; what the program
 * asks for here is asked of the supervisor.
 */
export class Worker implements SupervisorListener {
  readonly #link: SupervisorLink;
  readonly #context: ProcessContext;
  readonly #host: WorkerHost;
  /** To the worker that takes what this one has: the next one of its index, or another one. */
  #successorLink: ExchangeLink | undefined;
  #rebalance: Rebalance | undefined;
  #record: UpgradeRecord | undefined;
  #takeover: WorkerTakeover | undefined;
  #staged: Staged | undefined;
  /** Resolves when this worker accepts again: it takes no loan before. */
  #resuming: Promise<unknown> = Promise.resolve();
  /** Whether the roles of the service are this worker's. */
  #holdsRoles = false;

  constructor(link: SupervisorLink, context: ProcessContext, host: WorkerHost) {
    this.#link = link;
    this.#context = context;
    this.#host = host;
    link.subscribe(this);
    this.#listenTo(context.predecessors.alive);
    warnAboutIgnored(link, context.settings);
    void link.failed.then((error) => {
      context.emit("failed", { error });
      this.#stopWithoutSupervisor();
    });
    void link.gone.then((error) => {
      if (error !== undefined) context.emit("failed", { error });
      this.#stopWithoutSupervisor();
    });
  }

  commit(ticketKeys: Record<string, string>, fence: number, roles: boolean): void {
    this.#holdsRoles = roles;
    this.#host.startup.takePlace(ticketKeys, fence, roles);
    this.#host.dispatch("mayAccept");
  }

  confirmed(): void {
    if (this.#takeover === undefined) this.#host.dispatch("confirmed");
    else this.#takeover.settle(undefined);
  }

  stage(ttl: number): void {
    this.#host.startup.stage(ttl);
  }

  rehearsed(): void {
    this.#host.exitFromRehearsal();
  }

  successor(fd: number, peer: Peer): void {
    if (acceptPhase(this.#context.state()) === "stopped") return void native().close(fd);
    this.#successorLink?.close();
    this.#successorLink = new ExchangeLink(fd, peer, () => this.#host.progress());
    this.#context.processState.answerQueriesOf(this.#successorLink.exchange);
  }

  predecessor(fd: number, peer: Peer): void {
    if (acceptPhase(this.#context.state()) === "stopped") return void native().close(fd);
    const { fences } = this.#context.processState;
    const others = [new Predecessor(new Channel(fd), peer, fences)];
    this.#host.startup.takeFrom(others);
    this.#listenTo(others);
  }

  check(): HandoverError | undefined {
    try {
      assertManaged(this.#context, "upgrade");
      return undefined;
    } catch (error) {
      return error as HandoverError;
    }
  }

  async yield(leaves: boolean): Promise<void> {
    await this.#host.request("upgrade");
    this.#record = leaves ? undefined : this.#context.history.begin();
    // A process without a supervisor has loaded it by now, to answer its successor's questions.
    prepareDigest();
    await Promise.all([this.#context.processState.roles.release(), this.#successorLink?.subscribed]);
  }

  cease(successor: Peer): number {
    if (this.#context.state().name === "upgrading") {
      this.#takeover = new WorkerTakeover(this.#context, successor, this.#successorLink, this.#record);
      this.#host.replace(this.#takeover);
    }
    return this.#context.processState.fences.last;
  }

  retire(): void {
    this.#takeover?.passOn();
    this.#host.dispatch("acknowledged");
  }

  async resume(reason: HandoverError, roles: boolean, fence: number): Promise<void> {
    this.#context.processState.fences.advanceTo(fence);
    this.#holdsRoles = roles;
    const takeover = this.#takeover;
    this.#takeover = undefined;
    if (takeover !== undefined) {
      takeover.settle(reason);
      this.#resuming = takeover.confirmed;
      return void (await takeover.confirmed);
    }
    this.#successorLink?.close();
    if (this.#context.state().name !== "upgrading") return;
    if (this.#record !== undefined) this.#context.history.fail(this.#record, "failed", reason);
    this.#context.emit("failed", { error: reason });
    this.#host.dispatch("failed");
    void this.acquireRoles();
  }

  roles(held: boolean, fence: number): void {
    this.#context.processState.fences.advanceTo(fence);
    this.#holdsRoles = held;
    if (held) void this.acquireRoles();
    else void this.#releaseRoles();
  }

  lend(name: string, index: number, fd: number): void {
    void this.#resuming.then(() => this.#context.sockets.lend(name, index, fd));
  }

  probe(name: string | undefined, fd: number): void {
    answerProbe(this.#context.sockets.servers(), name, fd);
  }

  unlend(name: string, index: number): void {
    void this.#resuming.then(() => this.#context.sockets.unlend(name, index));
  }

  async rebalance(fd: number, peer: Peer, count: number): Promise<number> {
    if (this.#context.state().name !== "ready" || this.#rebalance !== undefined) {
      native().close(fd);
      return 0;
    }
    const link = new ExchangeLink(fd, peer, () => this.#host.progress());
    this.#rebalance = new Rebalance(this.#context.connections, link, count);
    const moved = await this.#rebalance.over;
    this.#rebalance = undefined;
    return moved;
  }

  endRebalance(): void {
    this.#rebalance?.end();
  }

  async inspect(): Promise<EngineReport | undefined> {
    return this.#context.hosts?.inspect();
  }

  stop(): void {
    this.#rebalance?.end();
    this.#host.dispatch("stop");
  }

  /** Tells the supervisor how what this worker held has ended. */
  leave(departure: Departure): void {
    this.#link.sendLeft(departure);
  }

  /** Asks for an upgrade of the service. This worker is replaced, too. */
  async askToUpgrade(signal: AbortSignal | undefined, force: boolean): Promise<UpgradeResult> {
    const result = await this.#ask<Omit<UpgradeResult, "settled">>("upgrade", { force }, signal);
    const settled = this.#takeover?.result.settled ?? Promise.resolve("confirmed" as const);
    return { ...result, settled };
  }

  async askToRehearse(signal: AbortSignal | undefined, force: boolean): Promise<Rehearsal> {
    return this.#ask("rehearse", { force }, signal);
  }

  async askToStage(
    ttl: number | undefined,
    signal: AbortSignal | undefined,
    force: boolean,
  ): Promise<Staged> {
    this.#staged = await this.#ask<Staged>("stage", { ...(ttl === undefined ? {} : { ttl }), force }, signal);
    return this.#staged;
  }

  /** Asks to end the workers that are staged. Returns what {@link askToStage} has returned last. */
  askToUnstage(): Staged | undefined {
    void this.#ask("unstage", {}).catch((error: HandoverError) => this.#context.emit("failed", { error }));
    const staged = this.#staged;
    this.#staged = undefined;
    return staged;
  }

  /** Asks to stop the service. Resolves when the supervisor has begun. */
  async askToStop(): Promise<void> {
    if (acceptPhase(this.#context.state()) === "stopped" || this.#link.isGone) return this.stop();
    await this.#ask("stop", {});
  }

  readonly #fromPredecessor: PredecessorListener = {
    commit: (others) => {
      this.#host.startup.takeOver(others, {});
      this.#listenTo(others);
    },
    // The supervisor says the rest.
    confirmed: () => {},
    stopping: () => {},
    stage: () => {},
    rehearsed: () => {},
  };

  /** What these workers offer stays with this one, unless it can still be rolled back itself. */
  #listenTo(others: readonly Predecessor[]): void {
    for (const one of others) {
      one.subscribe(this.#fromPredecessor);
      if (isConfirmed(this.#context.state())) one.sendConfirmed();
    }
  }

  async #ask<T>(operation: Operation, options: AskOptions, signal?: AbortSignal): Promise<T> {
    return (await this.#link.ask(operation, options, signal)) as T;
  }

  /** Acquires the roles, if they are this worker's. If it cannot acquire all of them it holds none, and the next one tries. */
  async acquireRoles(): Promise<void> {
    if (!this.#holdsRoles) return;
    const { roles, fences } = this.#context.processState;
    const [reason, ...others] = await roles.acquireAll();
    if (reason === undefined) return;
    for (const error of [reason, ...others]) this.#context.emit("failed", { error });
    // They may have been taken away meanwhile. One that cannot be released stays here.
    if (!this.#holdsRoles || !(await this.#releaseRoles())) return;
    this.#holdsRoles = false;
    this.#link.sendRolesRefused(reason.message, fences.last);
  }

  /** Returns whether no role is held here. */
  async #releaseRoles(): Promise<boolean> {
    const errors = await this.#context.processState.roles.releaseAll();
    for (const error of errors) this.#context.emit("failed", { error });
    return errors.length === 0;
  }

  /**
   * Without its supervisor a worker could be neither upgraded nor restarted: the service is to be started again. So every
   * listener is closed in this turn: the next supervisor cannot bind an address that is held.
   */
  #stopWithoutSupervisor(): void {
    process.exitCode = 1;
    this.#host.dispatch("stop");
    this.#context.sockets.releaseDatagrams();
  }
}

/**
 * Says of options that are the service's that they have no effect here. One worker says so, once. The program need not have
 * given one that is at its default.
 */
function warnAboutIgnored({ place }: SupervisorLink, settings: Settings): void {
  if (place.index > 0 || place.generation > 0) return;
  const { pidFile, controlSocket } = settings;
  const hasSocket = typeof controlSocket === "string" && controlSocket !== `${pidFile}.sock`;
  const ignored = [
    ...(pidFile === undefined ? [] : [`pidFile (the service has ${place.pidFile ?? "none"})`]),
    ...(hasSocket ? [`controlSocket (the service has ${place.controlSocket ?? "one of its own"})`] : []),
    // One that has its default was probably not given.
    ...(["probation", "upgradeTimeout", "maxDraining"] as const)
      .filter((name) => settings[name] !== DEFAULTS[name] && settings[name] !== place.limits[name])
      .map((name) => `${name} (the service has ${place.limits[name]}${name === "maxDraining" ? "" : " ms"})`),
  ];
  if (ignored.length === 0) return;
  process.emitWarning(
    `these options of new Upgrader() are ignored in a worker, because they are its supervisor's: ${ignored.join(", ")}`,
    { code: "HANDOVER_WORKER" },
  );
}

type AskOptions = Pick<Message & { type: "ask" }, "ttl" | "force">;
