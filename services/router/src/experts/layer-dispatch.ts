import { fail, type GuildhallError, type Timer } from '@guildhall/common';
import type { Lane } from '@guildhall/native';
import type { DispatchBuffers, DispatchContext, RemoteExpertsOptions } from './dispatch.ts';
import { HolderWait } from './holder-wait.ts';
import { expertsOf, nameExperts, numSequencesOf, type Retry, sequencesOf } from './job.ts';
import { type Failure, LayerJobs } from './layer-jobs.ts';
import type { ExpertPeer } from './peer.ts';
import { entriesOf, splitByExperts, splitByOwner } from './plan.ts';
import type { ExpertView } from './placement-view.ts';
import { SecondCalls } from './second-calls.ts';
import type { StepTrace } from '../telemetry/step-trace.ts';
import { afterFault, afterLoss, CLEAN, type Verdict } from './suspects.ts';

export interface LayerDispatchOptions extends RemoteExpertsOptions {
  view: ExpertView<ExpertPeer>;
  lane: Lane;
  /** Null unless the step is sampled. */
  trace: StepTrace | null;
  layer: number;
  step: DispatchBuffers;
  numTokens: number;
  ctx: DispatchContext;
  ownerOf: (row: number) => number;
  /** `count` entries of a row were computed by a worker, in `ms`. */
  onRows: (worker: string, row: number, count: number, ms: number) => void;
  /** Has `check` called at this monotonic time, or before. */
  wakeBy: (atMs: number) => void;
}

const BUSY_FIRST_MS = 2;
const BUSY_CAP_MS = 100;
const FAULT_PAUSE_MS = 20;
const FAULT_PAUSE_CAP_MS = 1000;

/**
 * The handle of one layer's rows on their way: it sends them, takes the replies back, and sends elsewhere what was lost,
 * refused or is late, until all rows are there. Entries are always in exactly one place: in a job, in a pause before the
 * next attempt, in the line of suspects, or waiting for a holder.
 */
export class LayerDispatch {
  readonly done: Promise<void>;
  readonly #o: LayerDispatchOptions;
  readonly #jobs: LayerJobs;
  readonly #second: SecondCalls;
  readonly #wait: HolderWait;
  readonly #paused = new Map<Timer, Retry>();
  /** Sequences that may break workers, to be sent one after another. */
  readonly #suspects: Retry[] = [];
  /** Workers that failed in this layer; not asked again while another holds the expert. */
  readonly #faulty = new Set<string>();
  /** Sequences that a worker failed on when it had the rows of one only. */
  readonly #failures = new Map<string, Set<number>>();
  readonly #startedAtMs: number;
  readonly #giveUpAtMs: number;
  #busy = 0;
  #settled = false;
  #resolve: () => void = () => undefined;
  #reject: (error: GuildhallError) => void = () => undefined;

  constructor(options: LayerDispatchOptions) {
    const { clock, ctx, expertWaitMs } = options;
    this.#o = options;
    this.#startedAtMs = clock.monotonicMs();
    this.#giveUpAtMs = ctx.deadlineMs ?? this.#startedAtMs + expertWaitMs;
    this.#jobs = new LayerJobs(options, {
      onFailed: (item, failure) => this.#onFailed(item, failure),
      onProgress: () => this.#onProgress(),
    });
    this.#second = new SecondCalls(options, this.#jobs);
    this.#wait = this.#makeWait();
    this.done = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    // The model awaits it after its own work; a failure before that is not an unhandled one.
    this.done.catch(() => undefined);
  }

  /** Plans with the pinned view and sends; what that view has no holder for goes by the newest one. */
  start(): void {
    const { step, numTokens, topK, ctx, view, observer, policy } = this.#o;
    if (ctx.signal?.aborted === true) return this.#fail(fail('cancelled', 'the step was cancelled'));
    ctx.signal?.addEventListener('abort', this.#onAbort, { once: true });
    step.beginCombine();
    this.#o.calls.sweep();
    const entries = entriesOf(step.topkIds, step.topkWeights, numTokens, topK);
    const missing = this.#jobs.send({ entries, history: CLEAN }, view, (link) => policy.rank(link.id));
    let rows = 0;
    for (const job of this.#jobs.jobs) rows += job.entries.rowIndex.length;
    observer.spread(numTokens, rows);
    if (policy.breakers.numOpen > 0) this.#second.probe(entries);
    if (missing !== null) this.#retry(missing, 0);
    this.#onProgress();
  }

  /** Makes second calls for what should have been answered. Returns when to look again; Infinity for never. */
  check(): number {
    return this.#settled ? Infinity : this.#second.check();
  }

  /** Drops everything without an outcome. */
  abandon(): void {
    if (!this.#settled) this.#fail(fail('cancelled', 'the step was abandoned'));
  }

  readonly #onAbort = (): void => this.#fail(fail('cancelled', 'the step was cancelled'));

  #makeWait(): HolderWait {
    const { clock, views, fallback } = this.#o;
    return new HolderWait({
      clock,
      onViewChange: (listener) => views.onChange(listener),
      giveUpAtMs: this.#giveUpAtMs,
      fallbackAtMs: () => fallback?.fromMs() ?? Infinity,
      retry: (items) => this.#each(items, (item) => this.#retry(item, 0)),
      fallback: (items) => this.#each(items, (item) => this.#computeHere(item)),
      giveUp: () => this.#giveUp([]),
    });
  }

  #each(items: readonly Retry[], act: (item: Retry) => void): void {
    for (const item of items) if (!this.#settled) act(item);
    this.#onProgress();
  }

  #onFailed(item: Retry, failure: Failure): void {
    const { policy, ownerOf } = this.#o;
    const { entries, history } = item;
    if (failure.kind === 'busy') {
      this.#busy += 1;
      return this.#pause(item, Math.min(BUSY_CAP_MS, BUSY_FIRST_MS * 2 ** Math.min(this.#busy, 10)), 0);
    }
    if (failure.kind === 'not-held' || history.noFallback) return this.#retry(item, 0);
    const numSequences = numSequencesOf(entries, ownerOf);
    if (failure.kind === 'lost') return this.#follow(afterLoss(history, numSequences), item);
    const worker = history.faults.at(-1) ?? '';
    this.#faulty.add(worker);
    if (numSequences === 1) this.#failedOn(worker).add(sequencesOf([entries], ownerOf)[0] ?? -1);
    const isAble = (id: string): boolean => this.#isLone || this.#jobs.able.has(id);
    // Whoever failed on each of several sequences and computed none is no witness against one of them.
    const isHealthy = (id: string): boolean => policy.isHealthy(id) && (isAble(id) || this.#failedOn(id).size <= 1);
    this.#follow(afterFault(history, numSequences, isHealthy, isAble), item);
  }

  #failedOn(worker: string): Set<number> {
    const known = this.#failures.get(worker) ?? new Set<number>();
    this.#failures.set(worker, known);
    return known;
  }

  /** All rows of this layer belong to one sequence. */
  get #isLone(): boolean {
    const { numTokens, ownerOf } = this.#o;
    return Array.from({ length: numTokens }, (_, row) => ownerOf(row)).every((owner) => owner === ownerOf(0));
  }

  #follow(verdict: Verdict, item: Retry): void {
    const { entries, history } = item;
    if (verdict === 'convict') return this.#convict(item);
    if (verdict === 'retry') return this.#retry(item, 0);
    const isIsolated = verdict === 'isolate';
    // Whose fault it was is found out anew for each sequence.
    const own = { ...history, faults: isIsolated ? history.faults : [], isIsolated };
    const items = splitByOwner(entries, this.#o.ownerOf).map((part) => ({ entries: part, history: own }));
    if (isIsolated) this.#suspects.push(...items);
    else for (const part of items) if (!this.#settled) this.#retry(part, 0);
  }

  /** Tries entries again by the newest view; `faultyRank` is that of workers that failed in this layer. */
  #retry(item: Retry, faultyRank: 0 | 1): void {
    const { policy, views, clock } = this.#o;
    if (clock.monotonicMs() >= this.#giveUpAtMs) return this.#giveUp([item]);
    this.#jobs.again();
    const missing = this.#jobs.send(item, views.latest, (link) =>
      this.#faulty.has(link.id) ? faultyRank : policy.rank(link.id),
    );
    if (missing === null) return;
    if (faultyRank > 0 || this.#faulty.size === 0) return this.#wait.add(missing);
    // Nobody else holds them: the same worker once more, after a breath.
    const faults = Math.max(1, missing.history.faults.length);
    this.#pause(missing, Math.min(FAULT_PAUSE_CAP_MS, FAULT_PAUSE_MS * 2 ** (faults - 1)), 1);
  }

  /** Has this process compute entries. */
  #computeHere(item: Retry): void {
    const { fallback } = this.#o;
    this.#jobs.again();
    for (const entries of splitByExperts(item.entries, fallback?.peer.capacity ?? 1)) {
      const piece = { entries, history: item.history };
      const part = { worker: -1, ...entries };
      if (fallback === null || !this.#jobs.begin(piece, part, fallback.peer, 0)) this.#wait.add(piece);
    }
  }

  #pause(item: Retry, ms: number, faultyRank: 0 | 1): void {
    const timer = this.#o.clock.setTimer(ms, () => {
      this.#paused.delete(timer);
      if (this.#settled) return;
      this.#retry(item, faultyRank);
      this.#onProgress();
    });
    this.#paused.set(timer, item);
  }

  /** Sends the next suspect when none is about; settles when nothing is left; has stragglers looked after. */
  #onProgress(): void {
    for (let next = this.#nextSuspect(); next !== undefined; next = this.#nextSuspect()) this.#retry(next, 0);
    if (this.#settled) return;
    const busy = this.#jobs.jobs.size > 0 || this.#paused.size > 0 || this.#wait.items.length > 0;
    if (!busy) return this.#finish();
    const atMs = this.#second.nextAtMs();
    if (atMs !== Infinity) this.#o.wakeBy(atMs);
  }

  #nextSuspect(): Retry | undefined {
    if (this.#settled || this.#suspects.length === 0) return undefined;
    const about = [...this.#jobs.jobs, ...this.#paused.values(), ...this.#wait.items];
    return about.some(({ history }) => history.isIsolated) ? undefined : this.#suspects.shift();
  }

  #convict(item: Retry): void {
    const { layer, ownerOf } = this.#o;
    const sequences = sequencesOf([item.entries], ownerOf);
    const experts = expertsOf([item.entries]);
    const message = `${nameExperts(layer, experts)} failed on the same rows again: ${item.history.lastReason}`;
    this.#fail(fail('computation_failed', message, { details: { sequences, layer, experts } }));
  }

  /** Time is up for what waits, or for these entries. */
  #giveUp(items: readonly Retry[]): void {
    const { layer, ownerOf, clock } = this.#o;
    const stuck = [...items, ...this.#wait.items, ...this.#paused.values(), ...this.#suspects];
    const sets = stuck.map(({ entries }) => entries);
    const [sequences, experts] = [sequencesOf(sets, ownerOf), expertsOf(sets)];
    const waitedMs = Math.round(clock.monotonicMs() - this.#startedAtMs);
    const reason = stuck.map(({ history }) => history.lastReason).find((text) => text !== '');
    const why = `no live worker answered for ${waitedMs} ms${reason === undefined ? '' : `; ${reason}`}`;
    const message = `${nameExperts(layer, experts)} cannot be computed: ${why}`;
    this.#fail(fail('expert_unavailable', message, { details: { sequences, layer, experts } }));
  }

  #finish(): void {
    const { step, layer, lane, observer, clock } = this.#o;
    const missing = step.missing();
    if (missing > 0)
      return this.#fail(fail('integrity', `${missing} expert rows of layer ${layer} are unaccounted for`));
    this.#end(false);
    const now = clock.monotonicMs();
    observer.layer(lane, now - this.#startedAtMs);
    if (this.#jobs.troubleSinceMs !== null) observer.failover(now - this.#jobs.troubleSinceMs);
    this.#resolve();
  }

  #fail(error: GuildhallError): void {
    if (this.#settled) return;
    this.#end(true);
    this.#reject(error);
  }

  #end(failed: boolean): void {
    this.#settled = true;
    this.#jobs.close(failed);
    this.#wait.close();
    for (const pause of this.#paused.keys()) pause.cancel();
    this.#o.ctx.signal?.removeEventListener('abort', this.#onAbort);
  }
}
