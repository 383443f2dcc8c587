import type { Timer } from '@guildhall/common';
import type { Lane } from '@guildhall/native';
import {
  type Entries,
  entriesOf,
  mergeEntries,
  type Part,
  planParts,
  replyBytes,
  requestBytes,
} from '@guildhall/router/scheduling';
import type { WorkerRank } from '@guildhall/router/policy';
import { transfer } from '../kernel/nic.ts';
import type { Dispatcher } from './dispatcher.ts';
import type { SimWorker } from './worker.ts';

export type RunResult = 'ok' | 'failed';

export interface LayerRows {
  lane: Lane;
  layer: number;
  /** [rows][topK]. */
  topkIds: Int32Array;
  rows: number;
}

/** A message on its way to a worker and back. */
interface Flight {
  part: Part;
  worker: SimWorker;
  sentAtMs: number;
  hedgeAtMs: number;
  deadlineAtMs: number;
  /** It is a second call. */
  second: boolean;
}

/**
 * One layer's rows on their way: what the router's LayerDispatch does with messages, in simulated time. Done when every
 * (row, expert) pair has come back once; a pair that comes back twice is counted.
 */
export class LayerRun {
  readonly #d: Dispatcher;
  readonly #rows: LayerRows;
  readonly #done: (result: RunResult) => void;
  readonly #flights = new Set<Flight>();
  /** Workers that owe this layer a reply that is overdue; not asked again while another holds the expert. */
  readonly #late = new Set<SimWorker>();
  readonly #filled: Uint8Array;
  #missing: number;
  #waiting: Entries[] = [];
  #timer: Timer | null = null;
  #timerAtMs = Infinity;
  #giveUp: Timer | null = null;
  #over = false;

  constructor(dispatcher: Dispatcher, rows: LayerRows, done: (result: RunResult) => void) {
    this.#d = dispatcher;
    this.#rows = rows;
    this.#done = done;
    this.#missing = rows.rows * dispatcher.options.shape.topK;
    this.#filled = new Uint8Array(this.#missing);
  }

  start(): void {
    const { topkIds, rows } = this.#rows;
    const { topK } = this.#d.options.shape;
    const entries = entriesOf(topkIds, weightsFor(rows * topK), rows, topK);
    this.#d.counts.tokenLayers += rows;
    this.#sendOrWait(entries);
  }

  /** A worker's streams broke. */
  lost(worker: SimWorker): void {
    const flights = [...this.#flights].filter((flight) => flight.worker === worker);
    for (const flight of flights) this.#resend(flight, 'lost');
  }

  /** Somebody else may hold what this waits for. */
  holdersChanged(): void {
    if (this.#waiting.length === 0) return;
    const entries = mergeEntries(this.#waiting);
    this.#waiting = [];
    this.#giveUp?.cancel();
    this.#giveUp = null;
    this.#sendOrWait(entries);
  }

  #sendOrWait(entries: Entries): void {
    const missing = this.#send(entries, false, null);
    if (missing === null) return;
    this.#waiting.push(missing);
    const { clock, expertWaitMs } = this.#d.options;
    this.#giveUp ??= clock.timerAt(clock.monotonicMs() + expertWaitMs, () => this.#end('failed'));
  }

  /** Plans and sends; returns what nobody holds. `instead` is a worker that is not to be asked. */
  #send(entries: Entries, second: boolean, instead: SimWorker | null): Entries | null {
    const { views, shape, maxMessageBytes, combine } = this.#d.options;
    const view = views.latest;
    const { choice } = this.#d;
    const rank = (worker: number): WorkerRank => {
      const to = view.workers[worker] as SimWorker;
      return to.ready && to !== instead && !this.#late.has(to) ? 2 : 0;
    };
    const startMs = (worker: number): number => this.#d.startMs(view.workers[worker] as SimWorker, this.#rows.lane);
    const rowMs = (worker: number): number => this.#d.rowMs(view.workers[worker] as SimWorker, this.#rows.lane);
    const limits = { requestBytes: maxMessageBytes, replyBytes: maxMessageBytes };
    const plan = planParts({
      entries,
      layer: this.#rows.layer,
      holders: view.holders,
      numWorkers: view.workers.length,
      loads: { rank, startMs, rowMs },
      choice,
      limits: () => limits,
      rowBytes: shape.rowBytes,
      replyRows: combine === 'exact' ? 'entries' : 'rows',
    });
    if (second && plan.missing !== null) return plan.missing;
    const flights = plan.parts.map((part) => this.#flight(part, view.workers[part.worker] as SimWorker, second));
    this.#dispatch(flights);
    return plan.missing;
  }

  #flight(part: Part, worker: SimWorker, second: boolean): Flight {
    const { latency, counts, options } = this.#d;
    const now = options.clock.monotonicMs();
    const { lane } = this.#rows;
    const rows = part.experts.length;
    counts.workersTouched += second ? 0 : part.rowIndex.length;
    const flight = {
      part,
      worker,
      sentAtMs: now,
      hedgeAtMs: second ? Infinity : now + latency.hedgeAfterMs(worker.id, lane, rows),
      deadlineAtMs: now + latency.deadlineMs(worker.id, lane, rows),
      second,
    };
    this.#flights.add(flight);
    this.#d.owes(worker, rows);
    if (!second) this.#d.budget.earned();
    if (second) counts.hedges += 1;
    else counts.firstCalls += 1;
    return flight;
  }

  /** The event loop packs all messages in one go; they leave when it is done. */
  #dispatch(flights: readonly Flight[]): void {
    const { loop, shape, transport } = this.#d.options;
    let us = 0;
    for (const { part } of flights) {
      us += callUs(transport, requestBytes(part.rowIndex.length, part.experts.length, shape.rowBytes));
    }
    loop.submit(this.#rows.lane, us / 1000, () => {
      for (const flight of flights) this.#transmit(flight);
    });
    for (const { hedgeAtMs, deadlineAtMs } of flights) this.#wakeAt(Math.min(hedgeAtMs, deadlineAtMs));
  }

  #transmit(flight: Flight): void {
    const { part, worker } = flight;
    const { clock, nic, shape, transport, loop, combine } = this.#d.options;
    const { lane } = this.#rows;
    const [rows, entries] = [part.rowIndex.length, part.experts.length];
    const latencyMs = transport.latencyUs / 1000;
    const bytes = requestBytes(rows, entries, shape.rowBytes);
    const answerBytes = replyBytes(combine === 'exact' ? entries : rows, shape.rowBytes);
    const out = { clock, from: nic, to: worker.nic, lane, bytes, latencyMs };
    const back = { clock, from: worker.nic, to: nic, lane, bytes: answerBytes, latencyMs };
    transfer(out, () => {
      worker.compute(lane, { entries, experts: distinct(part.experts, shape.numExperts) }, () => {
        transfer(back, () => {
          loop.submit(lane, callUs(transport, answerBytes) / 1000, () => this.#onReply(flight));
        });
      });
    });
  }

  #onReply(flight: Flight): void {
    const { latency, breakers, counts, options } = this.#d;
    const { worker, part } = flight;
    // The layer went on without it: a second call was faster, or it was given up.
    if (!this.#flights.has(flight)) return;
    this.#drop(flight);
    latency.observe(worker.id, this.#rows.lane, part.experts.length, options.clock.monotonicMs() - flight.sentAtMs);
    breakers.record(worker.id, 'ok');
    let fresh = 0;
    for (const slot of part.slots) {
      if (this.#filled[slot] === 1) continue;
      this.#filled[slot] = 1;
      fresh += 1;
    }
    this.#missing -= fresh;
    counts.rows += fresh;
    counts.duplicates += part.slots.length - fresh;
    if (flight.second && fresh > 0) counts.hedgesWon += 1;
    if (this.#missing === 0) this.#end('ok');
  }

  #drop(flight: Flight): void {
    if (this.#flights.delete(flight)) this.#d.owes(flight.worker, -flight.part.experts.length);
  }

  #wakeAt(atMs: number): void {
    if (atMs >= this.#timerAtMs || this.#over) return;
    this.#timer?.cancel();
    this.#timerAtMs = atMs;
    this.#timer = this.#d.options.clock.timerAt(atMs, () => {
      this.#timerAtMs = Infinity;
      this.#check();
    });
  }

  /** Hedges and gives up what is due. */
  #check(): void {
    const now = this.#d.options.clock.monotonicMs();
    const flights = Array.from(this.#flights);
    for (const flight of flights) {
      if (now >= flight.deadlineAtMs) this.#resend(flight, 'late');
      else if (now >= flight.hedgeAtMs) this.#hedge(flight);
    }
    for (const { hedgeAtMs, deadlineAtMs } of this.#flights) this.#wakeAt(Math.min(hedgeAtMs, deadlineAtMs));
  }

  #hedge(flight: Flight): void {
    flight.hedgeAtMs = Infinity;
    if (!this.#d.budget.spend()) return;
    this.#send(flight.part, true, flight.worker);
  }

  #resend(flight: Flight, outcome: 'lost' | 'late'): void {
    this.#drop(flight);
    if (this.#over) return;
    this.#late.add(flight.worker);
    if (outcome === 'late') this.#d.breakers.record(flight.worker.id, outcome);
    this.#d.counts.retries += 1;
    this.#sendOrWait(flight.part);
  }

  #end(result: RunResult): void {
    if (this.#over) return;
    this.#over = true;
    this.#timer?.cancel();
    this.#giveUp?.cancel();
    for (const flight of this.#flights) this.#drop(flight);
    this.#waiting = [];
    this.#done(result);
  }
}

function callUs(transport: { usPerCall: number; usPerKib: number }, bytes: number): number {
  return transport.usPerCall / 2 + (bytes / 1024) * transport.usPerKib;
}

let weights = new Float32Array(0);

/** Gate weights do not matter here, but plans carry them. */
function weightsFor(count: number): Float32Array {
  if (weights.length < count) weights = new Float32Array(2 * count);
  return weights;
}

let stamps = new Int32Array(0);
let stamp = 0;

/** Different numbers below `limit` in a list. */
function distinct(experts: Int32Array, limit: number): number {
  if (stamps.length < limit) stamps = new Int32Array(limit);
  stamp += 1;
  let count = 0;
  for (const expert of experts) {
    if (stamps[expert] === stamp) continue;
    stamps[expert] = stamp;
    count += 1;
  }
  return count;
}
