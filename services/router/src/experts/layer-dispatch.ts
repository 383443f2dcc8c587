import { fail, type GuildhallError, type Timer } from '@guildhall/common';
import type { Lane } from '@guildhall/native';
import { collect, STATUS_NAMES } from './combine.ts';
import type { DispatchBuffers, DispatchContext, RemoteExpertsOptions } from './dispatch.ts';
import { messageKey, type ReplyOutcome } from './lane-stream.ts';
import { type Entries, entriesOf, mergeEntries, type Part, planParts } from './plan.ts';
import type { ExpertView } from './placement-view.ts';
import type { WorkerLink } from './worker-link.ts';

export interface LayerDispatchOptions extends RemoteExpertsOptions {
  view: ExpertView<WorkerLink>;
  lane: Lane;
  layer: number;
  step: DispatchBuffers;
  numTokens: number;
  ctx: DispatchContext;
  ownerOf: (row: number) => number;
  /** `count` entries of a row were computed by a worker. */
  onRows: (worker: string, row: number, count: number) => void;
}

/** A message on its way. */
interface Flight {
  key: string;
  part: Part;
  link: WorkerLink;
  sentAtMs: number;
}

/** Faults of workers within one layer before its rows are given up. */
const MAX_FAULTS = 4;
const BUSY_FIRST_MS = 2;
const BUSY_CAP_MS = 100;
const FAULT_PAUSE_MS = 20;

/**
 * The handle of one layer's rows on their way: it sends them, takes the replies back, and sends what got lost again
 * until all rows are there. Entries are always in exactly one place: in a flight, in a pause before the next
 * attempt, or waiting for a holder.
 */
export class LayerDispatch {
  readonly done: Promise<void>;
  readonly #o: LayerDispatchOptions;
  readonly #flights = new Map<string, Flight>();
  readonly #pauses = new Set<Timer>();
  readonly #nextPart = new Map<string, number>();
  /** Workers that failed in this layer; not asked again while another holds the expert. */
  readonly #faulty = new Set<WorkerLink>();
  readonly #startedAtMs: number;
  #waiting: Entries[] = [];
  /** Rows of paused entries, for the error. */
  #paused: Entries[] = [];
  #attempt = 0;
  #faults = 0;
  #busy = 0;
  #settled = false;
  #resolve: () => void = () => undefined;
  #reject: (error: GuildhallError) => void = () => undefined;
  #stopWatching: (() => void) | null = null;
  #stall: Timer | null = null;

  constructor(options: LayerDispatchOptions) {
    this.#o = options;
    this.#startedAtMs = options.clock.monotonicMs();
    this.done = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    // The model awaits it after its own work; a failure before that is not an unhandled one.
    this.done.catch(() => undefined);
  }

  /** Plans with the pinned view and sends; what that view has no holder for goes by the newest one. */
  start(): void {
    const { step, numTokens, topK, ctx } = this.#o;
    if (ctx.signal?.aborted === true) return this.#fail(fail('cancelled', 'the step was cancelled'));
    ctx.signal?.addEventListener('abort', this.#onAbort, { once: true });
    step.beginCombine();
    const missing = this.#send(entriesOf(step.topkIds, step.topkWeights, numTokens, topK), this.#o.view);
    if (missing !== null) this.#resend(missing);
    this.#finishIfDone();
  }

  /** Workers that have owed a reply for `limitMs` count as lost; a layer that never gets done is given up. */
  expire(limitMs: number): void {
    if (this.#settled) return;
    const now = this.#o.clock.monotonicMs();
    if (now - this.#startedAtMs > this.#o.expertWaitMs + 2 * limitMs) return this.#giveUp('no worker does');
    const before = now - limitMs;
    const overdue = Array.from(this.#flights.values()).filter((flight) => flight.sentAtMs <= before);
    for (const flight of overdue) {
      // A reset of the stream may have ended this one together with another.
      if (!this.#flights.has(flight.key)) continue;
      this.#o.logger.warn({ worker: flight.link.id, lane: this.#o.lane, limitMs }, 'no reply from the worker');
      flight.link.reset(this.#o.lane, `no reply within ${limitMs} ms`);
    }
  }

  /** Drops everything without an outcome. */
  abandon(): void {
    if (!this.#settled) this.#fail(fail('cancelled', 'the step was abandoned'));
  }

  readonly #onAbort = (): void => this.#fail(fail('cancelled', 'the step was cancelled'));

  /** Sends entries by `view`; returns those that no usable worker holds. */
  #send(entries: Entries, view: ExpertView<WorkerLink>): Entries | null {
    const { lane, layer, rowBytes, combineMode } = this.#o;
    const plan = planParts({
      entries,
      layer,
      holders: view.holders,
      numWorkers: view.workers.length,
      usable: (worker) => this.#usable(view.workers[worker]),
      limits: (worker) => view.workers[worker]?.limits(lane) ?? { requestBytes: 0, replyBytes: 0 },
      rowBytes,
      replyRows: combineMode === 'exact' ? 'entries' : 'rows',
    });
    const unsent = plan.parts.filter((part) => !this.#sendPart(part, view));
    const missing = plan.missing === null ? unsent : [...unsent, plan.missing];
    return missing.length === 0 ? null : mergeEntries(missing);
  }

  #usable(link: WorkerLink | undefined): boolean {
    return link !== undefined && link.ready && !this.#faulty.has(link);
  }

  #sendPart(part: Part, view: ExpertView<WorkerLink>): boolean {
    const { ctx, layer, lane, incarnation, combineMode, step, clock, observer } = this.#o;
    const link = view.workers[part.worker] as WorkerLink;
    const number = this.#nextPart.get(link.id) ?? 0;
    this.#nextPart.set(link.id, number + 1);
    const header = {
      routerIncarnation: incarnation,
      step: ctx.step,
      layer,
      microBatch: ctx.microBatch,
      attempt: this.#attempt,
      part: number,
      epoch: view.epoch,
      combineMode,
      traceparent: ctx.traceparent,
    };
    const frame = step.packForward(header, part.rowIndex, part.entryCount, part.experts, part.weights);
    const key = messageKey(header);
    const flightKey = `${link.id}/${key}`;
    if (!link.send(lane, key, frame, (outcome) => this.#onOutcome(flightKey, outcome))) return false;
    this.#flights.set(flightKey, { key: flightKey, part, link, sentAtMs: clock.monotonicMs() });
    observer.bytes(link.id, 'sent', frame.length);
    return true;
  }

  #onOutcome(flightKey: string, outcome: ReplyOutcome): void {
    const flight = this.#flights.get(flightKey);
    if (flight === undefined || this.#settled) return;
    this.#flights.delete(flightKey);
    const { observer } = this.#o;
    if (outcome.kind === 'lost') {
      observer.message(flight.link.id, 'lost');
      observer.retry('lost');
      this.#resend(flight.part);
    } else {
      observer.message(flight.link.id, STATUS_NAMES[outcome.header.status] ?? 'unknown');
      observer.bytes(flight.link.id, 'received', outcome.frame.length);
      this.#onReply(flight, outcome);
    }
    this.#finishIfDone();
  }

  #onReply({ part, link }: Flight, { header, frame }: Extract<ReplyOutcome, { kind: 'reply' }>): void {
    const { step, combineMode, observer, views, layer } = this.#o;
    const collected = collect(step, part, header, frame, combineMode);
    switch (collected.kind) {
      case 'done':
        return this.#count(part, link);
      case 'busy':
        observer.retry('busy');
        this.#busy += 1;
        return this.#pause(part, Math.min(BUSY_CAP_MS, BUSY_FIRST_MS * 2 ** Math.min(this.#busy, 10)));
      case 'not-held':
        observer.retry('not_held');
        views.clearHeld(link, layer, collected.experts);
        link.queryHeld();
        return this.#resend(part);
      case 'fault':
        observer.retry('fault');
        return this.#onFault(part, link, collected.reason);
    }
  }

  #onFault(part: Part, link: WorkerLink, reason: string): void {
    const { layer, logger } = this.#o;
    logger.warn({ worker: link.id, layer, reason }, 'a worker failed on rows');
    this.#faults += 1;
    if (this.#faults >= MAX_FAULTS) {
      this.#waiting.push(part);
      return this.#giveUp(`worker ${link.id} ${reason}`);
    }
    this.#faulty.add(link);
    const missing = this.#again(part);
    if (missing === null) return;
    // Nobody else holds them: the same worker once more, after a breath.
    this.#faulty.clear();
    this.#pause(missing, FAULT_PAUSE_MS);
  }

  /** Tries entries again by the newest view; returns those without a holder. */
  #again(entries: Entries): Entries | null {
    this.#attempt += 1;
    return this.#send(entries, this.#o.views.latest);
  }

  #resend(entries: Entries): void {
    const missing = this.#again(entries);
    if (missing !== null) this.#waitForHolder(missing);
  }

  #pause(entries: Entries, ms: number): void {
    this.#paused.push(entries);
    const timer = this.#o.clock.setTimer(ms, () => {
      this.#pauses.delete(timer);
      this.#paused = this.#paused.filter((other) => other !== entries);
      if (!this.#settled) this.#resend(entries);
    });
    this.#pauses.add(timer);
  }

  #waitForHolder(entries: Entries): void {
    if (this.#settled) return;
    this.#waiting.push(entries);
    const { views, clock, ctx, expertWaitMs, logger, layer } = this.#o;
    if (this.#stall !== null) return;
    logger.warn({ layer, workers: views.latest.workers.length }, 'experts without a holder; waiting for one');
    const now = clock.monotonicMs();
    const waitMs = Math.max(0, Math.min(expertWaitMs, (ctx.deadlineMs ?? Infinity) - now));
    this.#stall = clock.setTimer(waitMs, () =>
      this.#giveUp(`no worker came to hold them within ${Math.round(waitMs)} ms`),
    );
    this.#stopWatching = views.onChange(() => this.#onViewChange());
  }

  #onViewChange(): void {
    if (this.#settled || this.#waiting.length === 0) return;
    const entries = mergeEntries(this.#waiting);
    this.#waiting = [];
    const missing = this.#again(entries);
    if (missing !== null) {
      this.#waiting.push(missing);
      return;
    }
    this.#stall?.cancel();
    this.#stall = null;
    this.#stopWatching?.();
    this.#stopWatching = null;
  }

  #count(part: Part, link: WorkerLink): void {
    this.#o.observer.rows(link.id, part.slots.length);
    for (let row = 0; row < part.rowIndex.length; row++) {
      this.#o.onRows(link.id, part.rowIndex[row] as number, part.entryCount[row] as number);
    }
  }

  #giveUp(why: string): void {
    const stuck = [...this.#waiting, ...this.#paused];
    const rows = stuck.length > 0 ? stuck : [...this.#flights.values()].map((flight) => flight.part);
    const sequences = new Set(rows.flatMap((entries) => Array.from(entries.rowIndex, (row) => this.#o.ownerOf(row))));
    const message = `experts of layer ${this.#o.layer} cannot be computed: ${why}`;
    this.#fail(fail('expert_unavailable', message, { details: { sequences: [...sequences] } }));
  }

  #finishIfDone(): void {
    if (this.#settled || this.#flights.size > 0 || this.#waiting.length > 0 || this.#pauses.size > 0) return;
    const missing = this.#o.step.missing();
    if (missing > 0)
      return this.#fail(fail('integrity', `${missing} expert rows of layer ${this.#o.layer} are unaccounted for`));
    this.#end();
    this.#o.observer.layer(this.#o.lane, this.#o.clock.monotonicMs() - this.#startedAtMs);
    this.#resolve();
  }

  #fail(error: GuildhallError): void {
    if (this.#settled) return;
    this.#end();
    for (const { key, link } of this.#flights.values()) link.forget(this.#o.lane, key.slice(link.id.length + 1));
    this.#flights.clear();
    this.#reject(error);
  }

  #end(): void {
    this.#settled = true;
    this.#stall?.cancel();
    this.#stopWatching?.();
    for (const pause of this.#pauses) pause.cancel();
    this.#o.ctx.signal?.removeEventListener('abort', this.#onAbort);
  }
}
