import { type ErrorCode, errorInfo, type Span } from '@guildhall/common';
import type { ReplyHeader } from '@guildhall/native';
import { STATUS_NAMES } from '../experts/replies.ts';
import type { TracedCall } from './step-trace.ts';

/** What a reply without rows is, as an error. */
const CODES: Readonly<Record<string, ErrorCode>> = {
  not_held: 'expert_unavailable',
  busy: 'overloaded',
  invalid: 'protocol_mismatch',
  failed: 'computation_failed',
  unknown: 'protocol_mismatch',
};

/** One message to a worker and what came of it. */
export class CallTrace {
  readonly #span: Span;

  private constructor(span: Span) {
    this.#span = span;
  }

  static begin(step: Span, { worker, layer, lane, kind, attempt, part, rows }: TracedCall): CallTrace {
    const attributes = {
      'rpc.system': 'grpc',
      'rpc.method': 'guildhall.v1.Experts/Stream',
      'guildhall.worker': worker,
      'guildhall.layer': layer,
      'guildhall.lane': lane,
      'guildhall.call': kind,
      'guildhall.attempt': attempt,
      'guildhall.part': part,
      'guildhall.rows': rows,
    };
    return new CallTrace(step.child('expert call', { role: 'client', attributes }));
  }

  /** Context for the message itself. */
  get traceparent(): string {
    return this.#span.traceparent;
  }

  sent(bytes: number): void {
    this.#span.set({ 'guildhall.bytes.sent': bytes });
  }

  answered(header: ReplyHeader, bytes: number): void {
    const status = STATUS_NAMES[header.status] ?? 'unknown';
    this.#span.set({
      'guildhall.status': status,
      'guildhall.bytes.received': bytes,
      'guildhall.queue_us': header.queueUs,
      'guildhall.compute_us': header.computeUs,
    });
    const code = CODES[status];
    if (code !== undefined) this.#span.fail(code, errorInfo(code).summary);
    this.#span.end();
  }

  /** The worker was lost before it answered. */
  lost(): void {
    this.#span.set({ 'guildhall.status': 'lost' });
    this.#span.fail('peer_unavailable', errorInfo('peer_unavailable').summary);
    this.#span.end();
  }

  /** Nobody waits for the answer any more, or it could not be sent. */
  dropped(): void {
    this.#span.set({ 'guildhall.status': 'dropped' });
    this.#span.end();
  }
}
