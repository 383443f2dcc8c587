import { type Attributes, errorInfo, type GuildhallError, type Span, type SpanOptions } from '@guildhall/common';

/** Spans of prefill chunks that one request gets; a longer prompt has its later chunks counted only. */
const MAX_CHUNKS = 64;
/** Spans of steps that one request causes, each with those of its messages to workers. */
const MAX_STEPS = 64;

export type PhaseName = 'queue' | 'prefill' | 'decode';

/** What became of a sequence. */
export interface SequenceFigures {
  reason: string;
  promptTokens: number;
  completionTokens: number;
  cachedTokens: number;
}

/**
 * The trace of one sequence in this router: its span, one phase below it at a time, and the steps that are sampled for it.
 * Nothing of it outlives the sequence.
 */
export class SequenceTrace {
  readonly #span: Span;
  readonly #everyStep: number;
  #phase: Span | null = null;
  #phaseName: PhaseName | null = null;
  #steps = 0;
  #stepSpans = 0;
  #chunks = 0;

  /** @param everyStep steps from one with a span to the next; 0 for none. */
  constructor(span: Span, everyStep: number) {
    this.#span = span;
    this.#everyStep = everyStep;
    this.enter('queue');
  }

  /** Context of what goes on now, for links. */
  get traceparent(): string {
    return this.#current.traceparent;
  }

  get #current(): Span {
    return this.#phase ?? this.#span;
  }

  /** Leaves one phase for another. */
  enter(name: PhaseName): void {
    if (this.#phaseName === name) return;
    this.#phase?.end();
    this.#phaseName = name;
    this.#phase = this.#span.child(name);
  }

  /** It got its pages and takes part in steps; so many tokens of its prompt need not be computed. */
  admitted(cachedTokens: number): void {
    this.#phase?.set({ 'guildhall.cached_tokens': cachedTokens });
    this.enter('prefill');
  }

  preempted(how: string): void {
    this.#span.event('preempted', { 'guildhall.preemption': how });
    this.enter('queue');
  }

  /** Part of the prompt was computed. */
  chunk(startMs: number, endMs: number, start: number, tokens: number): void {
    this.#chunks += 1;
    // After a preemption it is admitted silently.
    if (this.#phaseName === 'queue') this.enter('prefill');
    if (this.#chunks > MAX_CHUNKS) return;
    const attributes = { 'guildhall.chunk.start': start, 'guildhall.tokens': tokens };
    this.#current.record('prefill chunk', startMs, endMs, { attributes });
  }

  /** The span of a transfer of pages for it; the caller ends it. */
  transfer(name: string, attributes: Attributes = {}): Span {
    return this.#current.child(name, { attributes });
  }

  /** Counts a step that it takes part in; true if that one gets a span. */
  elects(): boolean {
    const number = this.#steps;
    this.#steps += 1;
    if (this.#everyStep === 0 || number % this.#everyStep !== 0 || this.#stepSpans >= MAX_STEPS) return false;
    this.#stepSpans += 1;
    return true;
  }

  /** The span of a step, below what this sequence is doing. */
  step(name: string, options: SpanOptions): Span {
    return this.#current.child(name, options);
  }

  finished({ reason, promptTokens, completionTokens, cachedTokens }: SequenceFigures): void {
    this.#span.set({
      'gen_ai.response.finish_reasons': [reason],
      'gen_ai.usage.input_tokens': promptTokens,
      'gen_ai.usage.output_tokens': completionTokens,
      'gen_ai.usage.cache_read.input_tokens': cachedTokens,
    });
    this.#end();
  }

  /** It goes on in another router. */
  moved(parked: boolean): void {
    this.#span.event('moved', { 'guildhall.parked': parked });
    this.#end();
  }

  failed({ code }: GuildhallError): void {
    this.#span.fail(code, errorInfo(code).summary);
    this.#end();
  }

  #end(): void {
    this.#phase?.end();
    this.#phase = null;
    this.#span.set({ 'guildhall.steps': this.#steps, 'guildhall.prefill_chunks': this.#chunks });
    this.#span.end();
  }
}
