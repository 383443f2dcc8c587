import type { ServerWritableStream } from '@grpc/grpc-js';
import { type GuildhallError, toGrpc } from '@guildhall/common';
import { router } from '@guildhall/proto';
import type { FinishOutput, SequenceSink, TokenOutput } from '../sequence.ts';

/** Events kept for a slow reader before its sequence pauses. */
export const MAX_UNSENT = 64;

const { FinishReason } = router;

export interface EventStreamOptions {
  call: Pick<
    ServerWritableStream<router.GenerateRequest, router.GenerateEvent>,
    'write' | 'end' | 'emit' | 'on' | 'cancelled'
  >;
  routerId: string;
  numericsId: string;
  /** host:port under which other routers reach this one. */
  address: () => string;
  /** The reader has caught up: the sequence may go on. */
  onDrain: () => void;
}

/**
 * Events of one sequence on their way to its caller. Generation does not wait for the reader: what the transport
 * does not take is kept here, in order, and `congested` says when that is enough.
 */
export class EventStream implements SequenceSink {
  readonly #o: EventStreamOptions;
  readonly #unsent: router.GenerateEvent[] = [];
  #blocked = false;
  #last: 'end' | GuildhallError | null = null;

  constructor(options: EventStreamOptions) {
    this.#o = options;
    options.call.on('drain', () => this.#drain());
  }

  get numUnsent(): number {
    return this.#unsent.length;
  }

  congested(): boolean {
    return this.#unsent.length >= MAX_UNSENT;
  }

  started(epoch: number, cachedTokens: number): void {
    const { routerId, numericsId } = this.#o;
    this.#push({ $case: 'started', value: { routerId, numericsId, epoch: BigInt(epoch), cachedTokens } });
  }

  token(token: TokenOutput): void {
    this.#push({ $case: 'token', value: tokenEvent(token) });
  }

  promptLogprobs(tokens: readonly TokenOutput[]): void {
    this.#push({ $case: 'promptLogprobs', value: { tokens: tokens.map(tokenEvent) } });
  }

  finished(output: FinishOutput): void {
    this.#push({ $case: 'finished', value: finishedEvent(output) });
    this.#close('end');
  }

  moved(handle: string, numComputed: number): void {
    const { routerId, address } = this.#o;
    this.#push({ $case: 'moved', value: { routerId, address: address(), handle, numComputed } });
    this.#close('end');
  }

  failed(error: GuildhallError): void {
    this.#close(error);
  }

  #push(event: router.GenerateEvent['event']): void {
    const message: router.GenerateEvent = { event };
    if (this.#blocked) this.#unsent.push(message);
    else this.#write(message);
  }

  #write(message: router.GenerateEvent): void {
    if (this.#o.call.cancelled) return;
    this.#blocked = !this.#o.call.write(message);
  }

  #drain(): void {
    const waited = this.congested();
    this.#blocked = false;
    while (!this.#blocked) {
      const message = this.#unsent.shift();
      if (message === undefined) break;
      this.#write(message);
    }
    this.#closeIfSent();
    if (waited && !this.congested()) this.#o.onDrain();
  }

  #close(how: 'end' | GuildhallError): void {
    this.#last = how;
    this.#closeIfSent();
  }

  /** The end comes after everything before it; the transport keeps what it has taken in order. */
  #closeIfSent(): void {
    const { call } = this.#o;
    if (this.#last === null || this.#unsent.length > 0 || call.cancelled) return;
    if (this.#last === 'end') call.end();
    else call.emit('error', toGrpc(this.#last));
    this.#last = null;
  }
}

function tokenEvent({ index, sample, expertMs = 0 }: TokenOutput): router.TokenEvent {
  return {
    index,
    id: sample.id,
    logprob: sample.logprob,
    expertMs,
    top: Array.from(sample.topIds, (id, i) => ({ id, logprob: sample.topLogprobs[i] ?? 0 })),
  };
}

function finishedEvent(output: FinishOutput): router.Finished {
  const { reason } = output;
  return {
    reason: reason.kind === 'stop' ? FinishReason.FINISH_REASON_STOP : FinishReason.FINISH_REASON_LENGTH,
    promptTokens: output.promptTokens,
    completionTokens: output.completionTokens,
    cachedTokens: output.cachedTokens,
    decodeCachedTokens: output.decodeCachedTokens,
    stopString: reason.stopString ?? '',
    ...(reason.stopTokenId === null ? {} : { stopTokenId: reason.stopTokenId }),
    queueMs: Math.round(output.queueMs),
    prefillMs: Math.round(output.prefillMs),
    decodeMs: Math.round(output.decodeMs),
    expertMs: output.expertMs,
    expertRows: new Map([...output.expertRows].map(([worker, rows]) => [worker, BigInt(rows)])),
  };
}
