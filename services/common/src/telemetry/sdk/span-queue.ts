import { TraceFlags } from '@opentelemetry/api';
import { ExportResultCode } from '@opentelemetry/core';
import type { ReadableSpan, SpanExporter, SpanProcessor } from '@opentelemetry/sdk-trace';
import type { Clock, Timer } from '../../clock.ts';

export interface SpanQueueOptions {
  exporter: SpanExporter;
  clock: Clock;
  /** Spans that wait at most; what comes then is dropped. */
  maxQueued: number;
  /** Spans of one export. Encoding and sending them keeps the event loop for 10 to 20 µs each. */
  batch: number;
  /** Time for which spans are gathered, milliseconds. */
  delayMs: number;
  /** Longest time between two attempts while the collector is away, milliseconds. */
  maxBackOffMs: number;
  onExported: (spans: number) => void;
  onDropped: (reason: 'queue_full' | 'export_failed', spans: number) => void;
  /** The collector stopped taking spans, or takes them again (null). */
  onState: (problem: string | null) => void;
}

/**
 * Spans on their way to the collector: gathered, sent in small batches, one at a time. What a collector does not take is
 * counted and dropped, and the pauses between attempts grow, so that one that is away costs memory up to the limit and
 * nothing else.
 */
export class SpanQueue implements SpanProcessor {
  readonly #o: SpanQueueOptions;
  #spans: ReadableSpan[] = [];
  #timer: Timer | null = null;
  #sending: Promise<void> | null = null;
  /** Spans of the export that is under way. */
  #numSending = 0;
  #failures = 0;
  #closed = false;

  constructor(options: SpanQueueOptions) {
    this.#o = options;
  }

  get length(): number {
    return this.#spans.length;
  }

  onStart(): void {
    // Only what has ended is sent.
  }

  onEnd(span: ReadableSpan): void {
    if (this.#closed || (span.spanContext().traceFlags & TraceFlags.SAMPLED) === 0) return;
    if (this.#spans.length >= this.#o.maxQueued) return this.#o.onDropped('queue_full', 1);
    this.#spans.push(span);
    this.#schedule();
  }

  /** Sends what is queued now. Resolves when all of it was taken or dropped. */
  async forceFlush(): Promise<void> {
    this.#timer?.cancel();
    this.#timer = null;
    while (this.#spans.length > 0 || this.#sending !== null) await (this.#sending ?? this.#send());
  }

  /** Sends what is queued and closes the exporter. */
  async shutdown(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.forceFlush();
    await this.#o.exporter.shutdown();
  }

  /** Drops what is queued and on its way: the time to send it is up. */
  abandon(): void {
    this.#closed = true;
    this.#timer?.cancel();
    const left = this.#spans.length + this.#numSending;
    this.#spans = [];
    this.#numSending = 0;
    if (left > 0) this.#o.onDropped('export_failed', left);
  }

  #schedule(): void {
    if (this.#timer !== null || this.#sending !== null) return;
    const { clock, delayMs, maxBackOffMs, batch } = this.#o;
    const isUrgent = this.#failures === 0 && this.#spans.length >= batch;
    const pauseMs = isUrgent ? 0 : Math.min(maxBackOffMs, delayMs * 2 ** this.#failures);
    this.#timer = clock.setTimer(pauseMs, () => {
      this.#timer = null;
      void this.#send();
    });
  }

  #send(): Promise<void> {
    this.#sending = this.#sendBatch().finally(() => {
      this.#sending = null;
      if (this.#spans.length > 0 && !this.#closed) this.#schedule();
    });
    return this.#sending;
  }

  async #sendBatch(): Promise<void> {
    const spans = this.#spans.splice(0, this.#o.batch);
    this.#numSending = spans.length;
    const problem = await exportSpans(this.#o.exporter, spans);
    // Given up meanwhile, and counted there.
    if (this.#numSending === 0) return;
    this.#numSending = 0;
    if (problem === null) {
      this.#o.onExported(spans.length);
      if (this.#failures > 0) this.#o.onState(null);
      this.#failures = 0;
    } else {
      this.#o.onDropped('export_failed', spans.length);
      if (this.#failures === 0) this.#o.onState(problem);
      this.#failures += 1;
    }
  }
}

/** Why the spans were not taken, or null. */
function exportSpans(exporter: SpanExporter, spans: ReadableSpan[]): Promise<string | null> {
  return new Promise((resolve) => {
    try {
      exporter.export(spans, ({ code, error }) =>
        resolve(code === ExportResultCode.SUCCESS ? null : (error?.message ?? 'the export failed')),
      );
    } catch (err) {
      resolve(err instanceof Error ? err.message : String(err));
    }
  });
}
