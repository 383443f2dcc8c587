import { plainSpec } from '../plain-spec.ts';
import type { GuildhallError } from '@guildhall/common';
import type { Sample, SamplerState } from '@guildhall/native';
import { type FinishOutput, Sequence, type SequenceSink, type SequenceSpec, type TokenOutput } from '../sequence.ts';
import { StopConditions } from '../stop-conditions.ts';

/** A sink of a test: keeps what it gets. */
export class RecordingSink implements SequenceSink {
  readonly tokens: TokenOutput[] = [];
  readonly prompt: TokenOutput[] = [];
  startedEpochs: number[] = [];
  result: FinishOutput | null = null;
  error: GuildhallError | null = null;
  movedTo: { handle: string; numComputed: number } | null = null;
  slow = false;
  /** Tokens after which its reader stops reading. */
  pauseAfter = Infinity;
  #done: () => void = () => undefined;
  readonly done = new Promise<void>((resolve) => {
    this.#done = resolve;
  });

  get ids(): number[] {
    return this.tokens.map(({ sample }) => sample.id);
  }

  started(epoch: number): void {
    this.startedEpochs.push(epoch);
  }

  token(token: TokenOutput): void {
    this.tokens.push(token);
  }

  promptLogprobs(tokens: readonly TokenOutput[]): void {
    this.prompt.push(...tokens);
  }

  finished(output: FinishOutput): void {
    this.result = output;
    this.#done();
  }

  moved(handle: string, numComputed: number): void {
    this.movedTo = { handle, numComputed };
    this.#done();
  }

  failed(error: GuildhallError): void {
    this.error = error;
    this.#done();
  }

  congested(): boolean {
    return this.slow || this.tokens.length >= this.pauseAfter;
  }
}

/** Counts tokens; its draws are the test's business. */
export class CountingSampler implements SamplerState {
  numGenerated = 0;

  accept(): void {
    this.numGenerated += 1;
  }
}

export function sampleOf(id: number): Sample {
  return { id, logprob: -id / 16, topIds: new Int32Array(0), topLogprobs: new Float32Array(0) };
}

/** A spec with defaults for everything that a test does not care about. */
export function specOf(given: Partial<SequenceSpec> & { numPrompt?: number; maxTokens?: number } = {}): SequenceSpec {
  const { numPrompt = 10, maxTokens = 8, ...spec } = given;
  const promptIds = Int32Array.from({ length: numPrompt }, (_, i) => (i * 7 + 3) % 97);
  return { ...plainSpec(promptIds, maxTokens), ...spec };
}

let tickets = 0;

/** A sequence outside of any engine. */
export function sequenceOf(
  given: Parameters<typeof specOf>[0] = {},
  sink: SequenceSink = new RecordingSink(),
): Sequence {
  const spec = specOf(given);
  tickets += 1;
  return new Sequence({
    spec,
    sampler: new CountingSampler(),
    stop: new StopConditions(spec.stop, null),
    sink,
    ticket: tickets,
    arrivedAtMs: 0,
  });
}
