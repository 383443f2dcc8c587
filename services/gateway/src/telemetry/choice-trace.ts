import { errorInfo, type GuildhallError, type Span } from '@guildhall/common';
import type { RoutingDecision } from '../routing/prompt-route.ts';

/** Candidates of a routing decision that its span names. */
const MAX_CANDIDATES = 8;

/** The attempts at one choice of a traced request, each a child of the request's span. */
export class ChoiceTrace {
  readonly #request: Span;
  readonly #choice: number;
  #attempts = 0;

  constructor(request: Span, choice: number) {
    this.#request = request;
    this.#choice = choice;
  }

  /** A router was chosen, between the two times, and is called now. `tokens` were generated before. */
  begin(decision: RoutingDecision, startMs: number, nowMs: number, tokens: number): AttemptTrace {
    this.#attempts += 1;
    const choice = { 'guildhall.choice': this.#choice, 'guildhall.attempt': this.#attempts };
    const { handle, reason, lookupMs, scores, holder } = decision;
    const own = scores.find(({ candidate }) => candidate === handle);
    this.#request.record('choose router', startMs, nowMs, {
      attributes: {
        ...choice,
        'guildhall.router': handle.id,
        'guildhall.routing.reason': reason,
        'guildhall.routing.lookup_ms': lookupMs ?? undefined,
        'guildhall.routing.cached_tokens': own?.cachedTokens,
        'guildhall.routing.pull_tokens': own?.pullTokens,
        'guildhall.routing.predicted_ttft_ms': own?.ttftMs,
        'guildhall.routing.holder': holder?.routerId,
        'guildhall.routing.candidates': scores.slice(0, MAX_CANDIDATES).map(({ candidate }) => candidate.id),
        'guildhall.routing.num_candidates': scores.length,
      },
    });
    const span = this.#request.child('call router', {
      role: 'client',
      startMs: nowMs,
      attributes: {
        ...choice,
        'rpc.system': 'grpc',
        'rpc.method': 'guildhall.v1.Router/Generate',
        'server.address': handle.address,
        'guildhall.router': handle.id,
        'guildhall.tokens.before': tokens,
        'guildhall.resumed': this.#attempts > 1,
      },
    });
    return new AttemptTrace(span);
  }
}

/** One Generate call. */
export class AttemptTrace {
  readonly #span: Span;
  #outcome = 'left';
  #tokens = 0;

  constructor(span: Span) {
    this.#span = span;
  }

  get traceparent(): string {
    return this.#span.traceparent;
  }

  token(): void {
    this.#tokens += 1;
  }

  finished(): void {
    this.#outcome = 'finished';
  }

  /** Its router drains; another one goes on. */
  moved(): void {
    this.#outcome = 'moved';
  }

  failed({ code }: GuildhallError): void {
    this.#outcome = 'failed';
    this.#span.fail(code, errorInfo(code).summary);
  }

  /** The call is over. One that neither finished nor failed was left, since its text ended here. */
  end(): void {
    this.#span.set({ 'guildhall.outcome': this.#outcome, 'guildhall.tokens': this.#tokens });
    this.#span.end();
  }
}
