import { type Clock, type ErrorCode, errorInfo, parseTraceparent, traceFields, type Tracing } from '@guildhall/common';
import { experts } from '@guildhall/proto';

const { ReplyStatus } = experts;

/** What a reply without rows is, as an error. */
const CODES: Readonly<Record<number, ErrorCode>> = {
  [ReplyStatus.REPLY_STATUS_NOT_HELD]: 'expert_unavailable',
  [ReplyStatus.REPLY_STATUS_BUSY]: 'overloaded',
  [ReplyStatus.REPLY_STATUS_INVALID]: 'protocol_mismatch',
  [ReplyStatus.REPLY_STATUS_FAILED]: 'computation_failed',
};

/** The worker's part of one message that its router traces. The span is made when the reply goes out, so that none is ever left open. */
export class ForwardTrace {
  readonly #tracing: Tracing;
  readonly #traceparent: string;
  readonly #facts: { worker: string; lane: string; layer: number; rows: number };
  readonly #startMs: number;

  private constructor(
    tracing: Tracing,
    clock: Clock,
    traceparent: string,
    facts: { worker: string; lane: string; layer: number; rows: number },
  ) {
    this.#tracing = tracing;
    this.#traceparent = traceparent;
    this.#facts = facts;
    this.#startMs = clock.monotonicMs();
  }

  /** Null for a message without a context, which all but a few are. */
  static of(
    tracing: Tracing,
    clock: Clock,
    worker: string,
    lane: string,
    header: { traceparent: string | null; layer: number; numEntries: number },
  ): ForwardTrace | null {
    const { traceparent, layer, numEntries: rows } = header;
    if (traceparent === null || parseTraceparent(traceparent)?.sampled !== true) return null;
    return new ForwardTrace(tracing, clock, traceparent, { worker, lane, layer, rows });
  }

  get logFields() {
    return traceFields(this.#traceparent);
  }

  /** The reply goes out; `status` is a ReplyStatus. */
  end(status: number, queueUs: number, computeUs: number): void {
    const { worker, lane, layer, rows } = this.#facts;
    const span = this.#tracing.join('expert forward', this.#traceparent, {
      role: 'server',
      startMs: this.#startMs,
      attributes: {
        'rpc.system': 'grpc',
        'rpc.method': 'guildhall.v1.Experts/Stream',
        'guildhall.worker': worker,
        'guildhall.lane': lane,
        'guildhall.layer': layer,
        'guildhall.rows': rows,
        'guildhall.queue_us': queueUs,
        'guildhall.compute_us': computeUs,
      },
    });
    const code = CODES[status];
    if (code !== undefined) span?.fail(code, errorInfo(code).summary);
    span?.end();
  }
}
