import { errorInfo, fail, type GuildhallError, type Span } from '@guildhall/common';
import type { Lane } from '@guildhall/native';
import type { Sequence } from '../sequence.ts';
import { CallTrace } from './call-trace.ts';

/** Messages of one step that get spans: some layers of a large model, all of a small one. */
const MAX_CALLS = 1024;
/** Sequences that a step's span links to. */
const MAX_LINKS = 128;

/** A micro-batch as its span tells it. */
export interface TracedBatch {
  lane: Lane;
  step: number;
  index: number;
  items: readonly { seq: Sequence; chunk: { count: number } }[];
}

/** A message to a worker as its span tells it. */
export interface TracedCall {
  worker: string;
  layer: number;
  lane: Lane;
  /** Why it is sent: `first`, `hedge`, `late`, or `probe`. */
  kind: string;
  attempt: number;
  part: number;
  rows: number;
}

/** One step of one micro-batch, sampled for one of the sequences in it, with links to the others that are traced. */
export class StepTrace {
  readonly #span: Span;
  #calls = 0;

  constructor(span: Span) {
    this.#span = span;
  }

  /**
   * Counts the step for every traced sequence of a batch; its span belongs to the first that wants one. Null, at the cost
   * of a look at each sequence, for all other steps.
   */
  static begin(batch: TracedBatch): StepTrace | null {
    let owner: Sequence | null = null;
    for (const { seq } of batch.items) {
      if (seq.trace === null) continue;
      if (seq.trace.elects() && owner === null) owner = seq;
    }
    return owner === null ? null : open(batch, owner);
  }

  get traceparent(): string {
    return this.#span.traceparent;
  }

  /** The span of a message; null once the step has had its share of them. */
  call(call: TracedCall): CallTrace | null {
    this.#calls += 1;
    if (this.#calls > MAX_CALLS) return null;
    return CallTrace.begin(this.#span, call);
  }

  failed({ code }: GuildhallError): void {
    this.#span.fail(code, errorInfo(code).summary);
  }

  end(): void {
    this.#span.set({ 'guildhall.messages': this.#calls });
    this.#span.end();
  }
}

function open({ lane, step, index, items }: TracedBatch, owner: Sequence): StepTrace {
  const traced = items.flatMap(({ seq }) => (seq.trace === null ? [] : [seq.trace.traceparent]));
  const tokens = items.reduce((sum, { chunk }) => sum + chunk.count, 0);
  if (owner.trace === null) throw fail('internal', 'the owner of a step is traced');
  const span = owner.trace.step(`${lane} step`, {
    links: traced.slice(0, MAX_LINKS),
    attributes: {
      'guildhall.lane': lane,
      'guildhall.step': step,
      'guildhall.micro_batch': index,
      'guildhall.sequences': items.length,
      'guildhall.tokens': tokens,
    },
  });
  return new StepTrace(span);
}
