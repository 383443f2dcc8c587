import { errorMessage } from '@guildhall/common';
import type { Call } from './calls.ts';
import { judge, type Judged, STATUS_NAMES } from './replies.ts';
import { type Job, numSequencesOf, type Retry, type Way } from './job.ts';
import type { ReplyOutcome } from './lane-stream.ts';
import type { LayerDispatchOptions } from './layer-dispatch.ts';
import type { ExpertPeer } from './peer.ts';
import { type Entries, mergeEntries, type Part, type Plan, planParts } from './plan.ts';
import type { ExpertView } from './placement-view.ts';
import type { WorkerRank } from './policy/index.ts';
import { withFault, withLoss } from './suspects.ts';

/** What came of a call other than rows. */
export type Failure = Exclude<Judged, { kind: 'ok' }> | { kind: 'lost'; reason: string };

export interface LayerJobsHandler {
  /** Every way of having these rows computed has failed, the last one so. */
  onFailed(item: Retry, failure: Failure): void;
  /** Something was answered, and what follows from it was done. */
  onProgress(): void;
}

/** The messages of one layer: sends them, each under a number of its own, and takes the rows that come back, once. */
export class LayerJobs {
  /** What is on its way. */
  readonly jobs = new Set<Job>();
  /** Workers that have computed rows of this layer. */
  readonly able = new Set<string>();
  /** When the first call was made that failed or is late; null while none has. */
  troubleSinceMs: number | null = null;
  readonly #o: LayerDispatchOptions;
  readonly #handler: LayerJobsHandler;
  readonly #nextPart = new Map<string, number>();
  #attempt = 0;
  #closed = false;

  constructor(options: LayerDispatchOptions, handler: LayerJobsHandler) {
    this.#o = options;
    this.#handler = handler;
  }

  /** Messages from now on are of a further attempt. */
  again(): void {
    this.#attempt += 1;
  }

  /** Gives entries to workers; `rank` says which of those that can be sent to may be used, and how gladly. */
  plan(entries: Entries, view: ExpertView<ExpertPeer>, rank: (worker: ExpertPeer) => WorkerRank): Plan {
    const { lane, layer, rowBytes, combineMode, policy } = this.#o;
    const { workers } = view;
    const idOf = (worker: number): string => workers[worker]?.id ?? '';
    return planParts({
      entries,
      layer,
      holders: view.holders,
      numWorkers: workers.length,
      loads: {
        rank: (worker) => {
          const link = workers[worker];
          return link === undefined || !link.ready ? 0 : rank(link);
        },
        startMs: (worker) => policy.startMs(idOf(worker), lane),
        rowMs: (worker) => policy.rowMs(idOf(worker), lane),
      },
      choice: policy.choice,
      limits: (worker) => workers[worker]?.limits(lane) ?? { requestBytes: 0, replyBytes: 0 },
      rowBytes,
      replyRows: combineMode === 'exact' ? 'entries' : 'rows',
    });
  }

  /** Sends entries by `view`; returns those that no usable worker holds. */
  send(item: Retry, view: ExpertView<ExpertPeer>, rank: (link: ExpertPeer) => WorkerRank): Retry | null {
    const { history } = item;
    const { parts, missing } = this.plan(item.entries, view, rank);
    const unsent: Entries[] = missing === null ? [] : [missing];
    for (const part of parts) {
      const peer = view.workers[part.worker];
      if (peer === undefined || !this.begin({ entries: part, history }, part, peer, view.epoch)) unsent.push(part);
    }
    return unsent.length === 0 ? null : { entries: mergeEntries(unsent), history };
  }

  /** A job with one call; false when the peer cannot be sent to. */
  begin({ entries, history }: Retry, part: Part, peer: ExpertPeer, epoch: number): boolean {
    const isHedged = history.faults.length > 0 || history.losses > 0;
    const job: Job = { entries, history, ways: [], isHedged, insistAtMs: Infinity, isDone: false };
    if (!this.addWay(job, 'first', [part], () => peer, epoch)) return false;
    this.jobs.add(job);
    this.#o.policy.budget.earned();
    return true;
  }

  /** Sends the parts that make up one way for a job; false, and nothing is on its way, when one cannot be sent. */
  addWay(
    job: Job,
    kind: Way['kind'],
    parts: readonly Part[],
    peerOf: (part: Part) => ExpertPeer | undefined,
    epoch: number,
  ): boolean {
    const way: Way = { kind, calls: [], replies: [] };
    for (const part of parts) {
      const peer = peerOf(part);
      const sink = (call: Call, outcome: ReplyOutcome): void => this.#onOutcome(job, way, call, outcome);
      const call = peer === undefined ? null : this.sendPart(kind, part, peer, epoch, sink);
      if (call === null) {
        for (const sent of way.calls) this.#o.calls.forget(sent);
        return false;
      }
      way.calls.push(call);
      way.replies.push(null);
    }
    job.ways.push(way);
    return true;
  }

  /** Packs rows and sends them; null when the peer cannot be sent to. */
  sendPart(
    kind: Way['kind'] | 'probe',
    part: Part,
    peer: ExpertPeer,
    epoch: number,
    sink: (call: Call, outcome: ReplyOutcome) => void,
  ): Call | null {
    const { ctx, layer, lane, incarnation, combineMode, step, calls, observer } = this.#o;
    const attempt = this.#attempt;
    const number = this.#nextPart.get(peer.id) ?? 0;
    this.#nextPart.set(peer.id, number + 1);
    const rows = part.slots.length;
    const trace = this.#o.trace?.call({ worker: peer.id, layer, lane, kind, attempt, part: number, rows }) ?? null;
    const header = {
      routerIncarnation: incarnation,
      step: ctx.step,
      layer,
      microBatch: ctx.microBatch,
      attempt,
      part: number,
      epoch,
      combineMode,
      traceparent: trace?.traceparent ?? null,
    };
    const frame = step.packForward(header, part.rowIndex, part.entryCount, part.experts, part.weights);
    trace?.sent(frame.length);
    const call = calls.send({ peer, lane, header, part, trace }, frame, sink);
    if (call !== null) observer.bytes(peer.id, 'sent', frame.length);
    return call;
  }

  /** Notes an answer, or its absence, and what it says about the worker. */
  judge(call: Call, outcome: ReplyOutcome): Judged | Failure {
    const { observer, combineMode } = this.#o;
    const worker = call.peer.id;
    if (outcome.kind === 'lost') {
      observer.message(worker, 'lost');
      return outcome;
    }
    observer.message(worker, STATUS_NAMES[outcome.header.status] ?? 'unknown');
    observer.bytes(worker, 'received', outcome.frame.length);
    return judge(call.part, outcome.header, combineMode);
  }

  /** Takes nothing any more. What is on its way is dropped if the layer failed, else it was of no use to begin with. */
  close(failed: boolean): void {
    this.#closed = true;
    if (!failed) return;
    for (const job of this.jobs) for (const way of job.ways) for (const call of way.calls) this.#o.calls.forget(call);
    this.jobs.clear();
  }

  #onOutcome(job: Job, way: Way, call: Call, outcome: ReplyOutcome): void {
    const judged = this.judge(call, outcome);
    if (this.#closed || job.isDone || !job.ways.includes(way)) return this.#onUnwanted(call, judged);
    if (judged.kind !== 'ok') {
      this.#onFailure(job, way, call, judged);
    } else {
      way.replies[way.calls.indexOf(call)] = outcome.kind === 'reply' ? outcome : null;
      if (!way.replies.includes(null)) this.#complete(job, way);
    }
    this.#handler.onProgress();
  }

  /** An answer that came too late, or from the slower one of two: it still tells how the worker is. */
  #onUnwanted(call: Call, judged: Judged | Failure): void {
    const { policy, observer } = this.#o;
    if (judged.kind !== 'lost') policy.record(call.peer.id, judged.kind);
    observer.late(call.peer.id);
  }

  /** Every call of a way was answered: the rows are taken, and what other ways may bring is not. */
  #complete(job: Job, way: Way): void {
    const { observer, policy } = this.#o;
    this.#finish(job);
    if (job.ways.some(({ kind }) => kind === 'hedge')) observer.hedge(way.kind === 'hedge' ? 'won' : 'lost');
    for (const other of job.ways) if (other !== way) for (const call of other.calls) this.#o.calls.lose(call);
    for (const [i, call] of way.calls.entries()) {
      const reason = this.#unpack(call.part, way.replies[i]?.frame ?? Buffer.alloc(0));
      if (reason === null) {
        policy.record(call.peer.id, 'ok');
        this.#count(call.part, call.peer, (way.replies[i]?.header.computeUs ?? 0) / 1000);
      } else {
        const piece: Job = { ...job, entries: call.part, ways: [] };
        this.#onFailure(piece, way, call, { kind: 'fault', reason });
      }
    }
  }

  /** Takes rows into the step's buffers; says why they do not fit, or null. Then the buffers are as they were. */
  #unpack(part: Part, frame: Buffer): string | null {
    try {
      this.#o.step.unpackReply(frame, part.slots, part.entryCount, this.#o.combineMode);
      return null;
    } catch (err) {
      return `a reply that does not fit: ${errorMessage(err)}`;
    }
  }

  #onFailure(job: Job, way: Way, call: Call, failure: Failure): void {
    const { policy, observer, logger, layer, ownerOf } = this.#o;
    const worker = call.peer.id;
    observer.retry(failure.kind === 'not-held' ? 'not_held' : failure.kind);
    this.trouble(call);
    if (failure.kind !== 'lost' && !call.peer.isFallback) policy.record(worker, failure.kind);
    if (failure.kind === 'fault') {
      logger.warn({ worker, layer, reason: failure.reason }, 'a worker failed on rows');
      job.history = withFault(job.history, call.peer, failure.reason);
    } else if (failure.kind === 'lost') {
      const isAlone = call.isAlone && numSequencesOf(job.entries, ownerOf) === 1;
      job.history = withLoss(job.history, worker, failure.reason, isAlone);
    }
    const at = job.ways.indexOf(way);
    if (at >= 0) job.ways.splice(at, 1);
    if (failure.kind === 'not-held') this.#notHeld(call, failure.experts);
    // Another way may still bring the rows.
    if (job.ways.length > 0) return;
    this.#finish(job);
    this.#handler.onFailed(job, failure);
  }

  /** The first sign of trouble of this layer is where its failover begins. */
  trouble(call: Call): void {
    this.troubleSinceMs ??= call.sentAtMs;
  }

  #notHeld(call: Call, experts: readonly number[]): void {
    const { views, layer } = this.#o;
    const link = views.latest.workers.find((worker) => worker === call.peer);
    if (link !== undefined) views.clearHeld(link, layer, experts);
    call.peer.queryHeld();
  }

  #finish(job: Job): void {
    job.isDone = true;
    this.jobs.delete(job);
  }

  /** Rows that `peer` has computed in `ms`. */
  #count(part: Part, peer: ExpertPeer, ms: number): void {
    this.able.add(peer.id);
    const total = part.slots.length;
    this.#o.observer.rows(peer.id, total);
    for (let row = 0; row < part.rowIndex.length; row++) {
      const count = part.entryCount[row] as number;
      this.#o.onRows(peer.id, part.rowIndex[row] as number, count, (ms * count) / total);
    }
  }
}
