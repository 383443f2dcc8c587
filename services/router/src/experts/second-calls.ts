import type { Call } from './calls.ts';
import type { Job } from './job.ts';
import type { LayerDispatchOptions } from './layer-dispatch.ts';
import type { LayerJobs } from './layer-jobs.ts';
import { type Entries, splitByExperts, splitByOwner } from './plan.ts';
import type { WorkerRank } from './policy/index.ts';

/** Deadlines after which a late call is made elsewhere whatever the budget says. */
const INSIST_FACTOR = 4;
/** How often it is looked whether somebody else has come to hold the experts of a late call. */
const LOOK_AGAIN_MS = 250;
/** Rows of a probe at most. */
const PROBE_ROWS = 8;

/** Calls of a layer beside those that its rows need: for stragglers, for late ones, and to see whether a worker works. */
export class SecondCalls {
  readonly #o: LayerDispatchOptions;
  readonly #jobs: LayerJobs;

  constructor(options: LayerDispatchOptions, jobs: LayerJobs) {
    this.#o = options;
    this.#jobs = jobs;
  }

  /** Makes the calls that are due. Returns when to look again; Infinity for never. */
  check(): number {
    const now = this.#o.clock.monotonicMs();
    for (const job of this.#jobs.jobs) {
      // One that is added here was begun just now, and is not due.
      for (const { calls, replies } of job.ways) {
        for (const [i, call] of calls.entries()) if (replies[i] === null) this.#checkCall(job, call, now);
      }
    }
    return this.nextAtMs();
  }

  /** When to look for the next time; Infinity for never. */
  nextAtMs(): number {
    let next = Infinity;
    for (const job of this.#jobs.jobs) {
      for (const { calls, replies } of job.ways) {
        for (let i = 0; i < calls.length; i++) {
          const call = calls[i] as Call;
          if (replies[i] !== null) continue;
          if (!job.isHedged) next = Math.min(next, call.hedgeAtMs);
          next = Math.min(next, call.isLate ? job.insistAtMs : call.deadlineAtMs);
        }
      }
    }
    return next;
  }

  /**
   * Sends copies of a few rows to workers whose breakers are open and that are due to be tried. Nobody waits for the
   * answers, so that a probe that fails does no harm.
   */
  probe(entries: Entries): void {
    const { policy, view, layer } = this.#o;
    for (const worker of view.workers) {
      if (!worker.ready || policy.breakers.state(worker.id) !== 'probing') continue;
      const few = splitByOwner(entries, (row) => (row < PROBE_ROWS ? 0 : 1))[0] ?? entries;
      const part = this.#jobs.plan(few, view, (link): WorkerRank => (link === worker ? 2 : 0)).parts[0];
      if (part === undefined) continue;
      policy.breakers.probed(worker.id);
      this.#o.logger.debug({ worker: worker.id, layer }, 'probing a worker');
      this.#jobs.sendPart('probe', part, worker, view.epoch, (call, outcome) => {
        const judged = this.#jobs.judge(call, outcome);
        if (judged.kind !== 'lost') policy.record(worker.id, judged.kind);
      });
    }
  }

  #checkCall(job: Job, call: Call, now: number): void {
    if (!job.isHedged && now >= call.hedgeAtMs) this.#hedge(job);
    if (!call.isLate && now >= call.deadlineAtMs) {
      this.#o.calls.late(call);
      this.#jobs.trouble(call);
      this.#relay(job, call, now, false);
    } else if (call.isLate && now >= job.insistAtMs) {
      this.#relay(job, call, now, true);
    }
  }

  /** For a straggler: only to workers in good order, and as far as the budget goes. */
  #hedge(job: Job): void {
    const { observer, policy } = this.#o;
    job.isHedged = true;
    const made = this.#elsewhere(job, 'hedge', 2, (calls) => policy.budget.spend(calls));
    if (made !== 'nobody') observer.hedge(made);
  }

  /** For a late call: to whoever else holds the experts, or to this process. */
  #relay(job: Job, call: Call, now: number, insist: boolean): void {
    const { observer, policy, fallback } = this.#o;
    // What broke a stream once is not given to a second worker while the first may yet answer.
    if (job.history.losses > 0) return void (job.insistAtMs = Infinity);
    job.isHedged = true;
    const made = this.#elsewhere(job, 'late', 1, (calls) => insist || policy.budget.spendLate(calls));
    job.insistAtMs = Infinity;
    if (made === 'sent') return observer.retry('late');
    if (made === 'denied') {
      job.insistAtMs = now + (INSIST_FACTOR - 1) * (call.deadlineAtMs - call.sentAtMs);
    } else if (fallback !== null && !job.history.noFallback && now - call.sentAtMs >= fallback.afterMs) {
      const parts = splitByExperts(job.entries, fallback.peer.capacity).map((entries) => ({ worker: -1, ...entries }));
      if (this.#jobs.addWay(job, 'late', parts, () => fallback.peer, 0)) observer.retry('late');
    } else {
      job.insistAtMs = now + LOOK_AGAIN_MS;
    }
  }

  /** One more way for a job, by workers that are not asked for its rows yet. */
  #elsewhere(
    job: Job,
    kind: 'hedge' | 'late',
    leastRank: WorkerRank,
    pay: (calls: number) => boolean,
  ): 'sent' | 'denied' | 'nobody' {
    const { views, policy } = this.#o;
    const view = views.latest;
    const asked = new Set(job.ways.flatMap(({ calls }) => calls.map(({ peer }) => peer.id)));
    const { parts, missing } = this.#jobs.plan(job.entries, view, (link) => {
      const rank = asked.has(link.id) || job.history.faults.includes(link.id) ? 0 : policy.rank(link.id);
      return rank < leastRank ? 0 : rank;
    });
    if (missing !== null) return 'nobody';
    if (!pay(parts.length)) return 'denied';
    this.#jobs.again();
    const sent = this.#jobs.addWay(job, kind, parts, (part) => view.workers[part.worker], view.epoch);
    return sent ? 'sent' : 'nobody';
  }
}
