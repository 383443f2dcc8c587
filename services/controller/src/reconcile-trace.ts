import type { Attributes, Clock, Span, Tracing } from '@guildhall/common';

/** What of an outcome a trace tells. */
export interface TracedOutcome {
  action: string;
  epoch: number;
  reason: string;
}

/** Outcomes that change something, or say why it cannot be changed. */
const TOLD: ReadonlySet<string> = new Set(['published', 'refused', 'short']);

/**
 * A trace of its own for each reconciliation that did something: published a placement, was refused, or noted an event.
 * Those that found everything right, one a second, leave none.
 */
export class ReconcileTraces {
  readonly #name: string;
  readonly #tracing: Tracing;
  readonly #clock: Clock;
  #span: Span | null = null;
  #events = 0;

  /** @param name of the spans. */
  constructor(tracing: Tracing, clock: Clock, name = 'reconcile') {
    this.#name = name;
    this.#tracing = tracing;
    this.#clock = clock;
  }

  /** A reconciliation begins. They run one after another. */
  begin(): void {
    this.#events = 0;
    this.#span = this.#tracing.own(this.#name);
  }

  /** An event is noted: what it is to carry, so that the trace is found from it. */
  event(kind: string, message: string): { traceId?: string } {
    if (this.#span === null) return {};
    this.#events += 1;
    this.#span.event(kind, { message });
    return { traceId: this.#span.traceId };
  }

  /** Runs a part of it. */
  async part<T>(name: string, body: () => Promise<T>, tell: (result: T) => Attributes): Promise<T> {
    const startMs = this.#clock.monotonicMs();
    const result = await body();
    this.#span?.record(name, startMs, this.#clock.monotonicMs(), { attributes: tell(result) });
    return result;
  }

  failed(code: string): void {
    this.#span?.fail(code);
    this.#events += 1;
  }

  end(outcome: TracedOutcome | null): void {
    const span = this.#span;
    this.#span = null;
    if (span === null) return;
    if (this.#events === 0 && !TOLD.has(outcome?.action ?? '')) return span.discard();
    if (outcome !== null) {
      const { action, epoch, reason } = outcome;
      span.set({ 'guildhall.action': action, 'guildhall.epoch': epoch, 'guildhall.reason': reason });
    }
    span.end();
  }
}
