import { type Clock, fail, isGuildhallError, type Logger, type Metrics, toGuildhallError } from '@guildhall/common';
import { router } from '@guildhall/proto';
import {
  ChoiceAssembler,
  saysNothing,
  type AssemblerOptions,
  type ChoiceCounts,
  type ChoiceDelta,
} from './choice-assembler.ts';
import { systemFingerprint, usageOf } from './answers/usage.ts';
import type { Admission } from './limits/admission.ts';
import { type ChoiceProgress, usageSoFar } from './limits/generation-usage.ts';
import type { Dossier, PoisonGuard } from './quarantine/guard.ts';
import { type KnownTokens, ResumableStream } from './routing/resume.ts';
import type { PromptRoute, Routing } from './routing/prompt-route.ts';
import type { RoutingTrace } from './routing/routing-trace.ts';
import type { RequestTelemetry } from './telemetry/request-telemetry.ts';

/** Log-probabilities of a token, as a router gave them. */
export type TokenLogprobs = Pick<router.TokenEvent, 'logprob' | 'top'>;

/** What is known of a choice that another process has begun. */
export interface KnownChoice extends KnownTokens {
  /** One for each token, where they are shown: the text of the last tokens may not have been told yet. */
  logprobs: readonly TokenLogprobs[];
}

/** One choice that is to be generated. */
export interface ChoicePlan {
  /** Place in the answer's list of choices. */
  index: number;
  request: router.GenerateRequest;
  /** Field that the request's constraint comes from; null without one. */
  constraintField: string | null;
  assembler: AssemblerOptions;
  /** What was generated of it before, by another process; it is not told again. */
  known?: KnownChoice;
}

/** Where the pieces of an answer go. A call is awaited before the next event of its choice is taken. */
export interface ChoiceSink {
  /** A router has begun. @param counts with what it found cached. */
  started(index: number, counts: ChoiceCounts, started: router.Started): Promise<void> | void;
  /** Every new token, before what it adds. */
  token?(index: number, token: router.TokenEvent): void;
  promptLogprobs(index: number, tokens: router.TokenEvent[]): Promise<void> | void;
  delta(index: number, delta: ChoiceDelta): Promise<void> | void;
}

export interface GenerationContext {
  routing: Routing;
  /** Notes why routers were chosen; null when nobody asked. */
  trace: RoutingTrace | null;
  telemetry: RequestTelemetry;
  /** Id of the answer. */
  responseId: string;
  clock: Clock;
  logger: Logger;
  metrics: Metrics;
  resumeTimeoutMs: number;
  /** Knows which requests break processes. */
  guard: PoisonGuard;
  /** Name that routers serve the model by; null where they are asked by their own first name. */
  routerModel: string | null;
  /** Name under which metrics are kept. */
  modelName: string;
  /** Returns once there is a router, or fails. */
  hold: (signal: AbortSignal) => Promise<void>;
  /** Monotonic times. */
  arrivedAtMs: number;
  deadlineAtMs: number | null;
  signal: AbortSignal;
  /** The request's account: quotas and usage. */
  admission: Admission;
}

/** What the choices of one prompt share. */
interface PromptParts {
  route: PromptRoute;
  dossier: Dossier;
}

const FINISH_NAMES = {
  [router.FinishReason.FINISH_REASON_STOP]: 'stop',
  [router.FinishReason.FINISH_REASON_LENGTH]: 'length',
} as const;

/** Generates the choices of one request side by side. */
export class Generation {
  readonly #context: GenerationContext;
  #fingerprint: string | null = null;

  constructor(context: GenerationContext) {
    this.#context = context;
  }

  /**
   * Names the checkpoint and numerics class that the answer comes from: equal fingerprints, seeds and requests give
   * equal answers. Null until a router has begun.
   */
  get fingerprint(): string | null {
    return this.#fingerprint;
  }

  /**
   * Runs all choices to their end and returns their counts in order. The first failure cancels the others and is thrown;
   * `request_quarantined` and `rate_limited` come before anything is begun.
   */
  async run(plans: readonly ChoicePlan[], sink: ChoiceSink): Promise<ChoiceCounts[]> {
    const abort = new AbortController();
    const signal = AbortSignal.any([this.#context.signal, abort.signal]);
    let failure: unknown = null;
    const prompts = this.#prompts(plans);
    for (const { dossier } of new Set(prompts)) dossier.check();
    const runs = plans.map((plan) => new ChoiceRun(plan));
    await this.#context.admission.begin(estimateOf(plans), () => usageSoFar(runs));
    await this.#context.hold(signal);
    const results = await Promise.all(
      plans.map(async (plan, i) => {
        try {
          return await this.#runChoice(runs[i] as ChoiceRun, prompts[i] as PromptParts, sink, signal);
        } catch (err) {
          failure ??= inClientsTerms(err, plan.constraintField);
          abort.abort(err);
          return null;
        }
      }),
    );
    if (failure !== null) throw toGuildhallError(failure);
    const counts = results.filter((count) => count !== null);
    this.#countTokens(plans, counts);
    return counts;
  }

  #countTokens(plans: readonly ChoicePlan[], counts: readonly ChoiceCounts[]): void {
    const { metrics, modelName, telemetry, responseId } = this.#context;
    const prompts = plans.filter((plan) => plan.request.choice === 0).map((plan) => plan.request.promptIds.length);
    const { prompt_tokens: prompt, completion_tokens: completion, prompt_tokens_details } = usageOf(prompts, counts);
    const cachedTokens = prompt_tokens_details.cached_tokens;
    telemetry.answered({ responseId, promptTokens: prompt, completionTokens: completion, cachedTokens });
    metrics.count('guildhall_http_tokens_total', { model_name: modelName, kind: 'prompt' }, prompt);
    metrics.count('guildhall_http_tokens_total', { model_name: modelName, kind: 'completion' }, completion);
  }

  /** Route and dossier for each choice; those of one prompt share theirs. */
  #prompts(plans: readonly ChoicePlan[]): PromptParts[] {
    const { routing, trace, guard, routerModel } = this.#context;
    const prompts = new Map<readonly number[], PromptParts>();
    return plans.map(({ request }) => {
      const { promptIds: ids, cacheSalt: salt, promptLogprobs } = request;
      const parts = prompts.get(ids) ?? {
        route: routing.route({ ids, salt, reusable: !promptLogprobs }, trace),
        dossier: guard.open(routerModel ?? '', request),
      };
      prompts.set(ids, parts);
      return parts;
    });
  }

  async #runChoice(run: ChoiceRun, parts: PromptParts, sink: ChoiceSink, signal: AbortSignal): Promise<ChoiceCounts> {
    const { plan, assembler } = run;
    const timer = new TokenTimer(this.#context);
    run.stream = this.#stream(plan, parts, signal);
    for await (const event of run.stream.events()) {
      if (event.kind === 'started') {
        run.started = true;
        this.#fingerprint ??= systemFingerprint(event.fingerprint, event.started.numericsId);
        assembler.onStarted(event.started);
        await sink.started(plan.index, assembler.counts, event.started);
        replay(assembler, plan.known);
      } else if (event.kind === 'promptLogprobs') {
        await sink.promptLogprobs(plan.index, event.tokens);
      } else if (event.kind === 'finished') {
        await this.#tell(sink, plan, assembler.onFinished(event.finished, finishName(event.finished.reason)));
        timer.end();
        return assembler.counts;
      } else {
        timer.onToken();
        sink.token?.(plan.index, event.token);
        if (assembler.ended) break;
        const delta = assembler.onToken(event.token);
        if (!isEmpty(delta)) await this.#tell(sink, plan, delta);
        // Unlike a stop string, the last call allowed is nothing that the router knows of.
        if (plan.assembler.parser.ended) break;
      }
    }
    // The router has gone on after what ended the answer here; leaving the loop has cancelled it.
    await this.#tell(sink, plan, assembler.onEnded());
    timer.end();
    return assembler.counts;
  }

  async #tell(sink: ChoiceSink, { index }: ChoicePlan, delta: ChoiceDelta): Promise<void> {
    this.#context.telemetry.delta(index, delta);
    await sink.delta(index, delta);
  }

  #stream(plan: ChoicePlan, { route, dossier }: PromptParts, signal: AbortSignal): ResumableStream {
    const { routing, clock, logger, metrics, telemetry, routerModel, resumeTimeoutMs, deadlineAtMs } = this.#context;
    return new ResumableStream(plan.request, {
      known: plan.known ?? null,
      trace: telemetry.choice(plan.index),
      pool: routing.pool,
      route,
      dossier,
      clock,
      logger,
      routerModel,
      resumeTimeoutMs,
      deadlineAtMs,
      signal,
      onResume: (outcome) => metrics.count('guildhall_stream_resumes_total', { outcome }),
      onPause: (ms) => metrics.observe('guildhall_stream_pause_seconds', ms / 1000),
    });
  }
}

/** A router that cannot compile a constraint says so of a field that clients do not know. */
function inClientsTerms(err: unknown, field: string | null): unknown {
  if (field === null || !isGuildhallError(err) || err.field !== 'constraint') return err;
  return fail(err.code, err.message.replace(/^constraint\b/, field), { field, cause: err });
}

/** Brings an assembler to where it was; what tokens said then was told. */
function replay(assembler: ChoiceAssembler, known: KnownChoice | undefined): void {
  for (const [index, id] of (known?.ids ?? []).entries()) {
    const { logprob, top } = known?.logprobs[index] ?? { logprob: 0, top: [] };
    assembler.onToken({ index, id, logprob, top, expertMs: 0 });
  }
}

/** One choice while it is generated. */
class ChoiceRun implements ChoiceProgress {
  readonly plan: ChoicePlan;
  readonly assembler: ChoiceAssembler;
  started = false;
  stream: ResumableStream | null = null;

  constructor(plan: ChoicePlan) {
    this.plan = plan;
    this.assembler = new ChoiceAssembler(plan.assembler);
  }

  get promptIds(): readonly number[] {
    return this.plan.request.promptIds;
  }

  get counts(): ChoiceCounts {
    return this.assembler.counts;
  }

  get known(): number {
    return this.plan.known?.ids.length ?? 0;
  }

  get expertMs(): number {
    return this.stream?.expertMs ?? 0;
  }
}

/** Tokens that the choices may come to. */
function estimateOf(plans: readonly ChoicePlan[]): { promptTokens: number; outputTokens: number } {
  const prompts = new Set(plans.map(({ request }) => request.promptIds));
  return {
    promptTokens: [...prompts].reduce((sum, ids) => sum + ids.length, 0),
    outputTokens: plans.reduce((sum, { request }) => sum + (request.stop?.maxTokens ?? 0), 0),
  };
}

function finishName(reason: router.FinishReason): 'stop' | 'length' {
  const name = FINISH_NAMES[reason as keyof typeof FINISH_NAMES];
  if (name === undefined) throw fail('router_lost', 'the router cancelled the sequence');
  return name;
}

function isEmpty(delta: ChoiceDelta): boolean {
  return saysNothing(delta) && delta.tokens.length === 0;
}

/** Times of tokens as the gateway sees them. */
class TokenTimer {
  readonly #context: GenerationContext;
  #firstMs = 0;
  #lastMs: number | null = null;
  #tokens = 0;

  constructor(context: GenerationContext) {
    this.#context = context;
  }

  onToken(): void {
    const { clock, metrics, modelName, arrivedAtMs } = this.#context;
    const nowMs = clock.monotonicMs();
    const name = this.#lastMs === null ? 'vllm:time_to_first_token_seconds' : 'vllm:inter_token_latency_seconds';
    metrics.observe(name, (nowMs - (this.#lastMs ?? arrivedAtMs)) / 1000, { model_name: modelName });
    if (this.#lastMs === null) {
      this.#firstMs = nowMs;
      this.#context.telemetry.firstToken();
    }
    this.#lastMs = nowMs;
    this.#tokens += 1;
  }

  /** The choice is over. */
  end(): void {
    if (this.#tokens < 2 || this.#lastMs === null) return;
    this.#context.telemetry.tokenTime((this.#lastMs - this.#firstMs) / (this.#tokens - 1));
  }
}
