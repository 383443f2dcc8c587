import { errorInfo, fail, type GuildhallError, type StoredResponse, toGuildhallError } from '@guildhall/common';
import type { router } from '@guildhall/proto';
import type { Caller } from '../caller.ts';
import { planChat, type PlannedChat } from '../chat/plan-chat.ts';
import type { ChoiceCounts, ChoiceDelta, FinishName } from '../choice-assembler.ts';
import type { GatewayContext } from '../context.ts';
import type { ChoiceSink, TokenLogprobs } from '../generation.ts';
import { askedPriority } from '../limits/priority.ts';
import { type RequestScope, withWorkScope } from '../request-scope.ts';
import type { AskingRequest } from '../run-completion.ts';
import { startGeneration } from '../run-completion.ts';
import type { ChatRequest } from '../schema/chat.ts';
import { RequestTelemetry } from '../telemetry/request-telemetry.ts';
import type { TokenSource } from '../token-text.ts';
import { ResponseBuilder, type ResponseEnd } from './builder.ts';
import { addEntries, type LogEntry, readLog } from './log.ts';
import { statusOf } from './run.ts';
import { joinPieces, type Piece, piecesOf } from './piece.ts';
import { builderOf, toStored } from './stored.ts';
import { responseError, responseUsage } from './usage.ts';

/** How long a gateway keeps a response that it says nothing of. */
export const LEASE_MS = 10_000;
const RENEW_MS = 2000;
/** How often what was generated is written down. */
const FLUSH_MS = 50;
/** Pauses before a response is tried again, for want of room or of a router. */
const FIRST_PAUSE_MS = 1000;
const MAX_PAUSE_MS = 10_000;
/** How long it is tried again, and how long Redis is waited for. */
const PATIENCE_MS = 600_000;

/** What a background response is made from; it is kept with it. */
export interface BackgroundJob {
  chat: ChatRequest;
  caller: Caller;
  traceparent: string;
}

export interface BackgroundRunOptions {
  stored: StoredResponse;
  job: BackgroundJob;
  owner: string;
}

export type BackgroundOutcome = ResponseEnd['status'] | 'handed_over';

/** One gateway's turn at a background response. */
export class BackgroundRun {
  readonly #context: GatewayContext;
  readonly #options: BackgroundRunOptions;
  readonly #controller = new AbortController();
  /** Another one has it, or it is over. */
  #lost = false;

  constructor(context: GatewayContext, options: BackgroundRunOptions) {
    this.#context = context;
    this.#options = options;
  }

  /** Ends the turn: nobody wants what it gives. */
  drop(): void {
    this.#lost = true;
    this.#controller.abort(fail('cancelled', 'the response was cancelled'));
  }

  /** Generates the response to its end, or hands it over when the gateway goes. */
  async run(): Promise<BackgroundOutcome> {
    const renewal = this.#context.clock.setInterval(RENEW_MS, () => void this.#append(''));
    try {
      return await this.#attempts();
    } finally {
      renewal.cancel();
    }
  }

  async #attempts(): Promise<BackgroundOutcome> {
    const { clock, inFlight, responses } = this.#context;
    const { stored, owner } = this.#options;
    const { signal } = this.#controller;
    const untilMs = clock.monotonicMs() + PATIENCE_MS;
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(pauseMs * 2, MAX_PAUSE_MS)) {
      try {
        return await this.#admitted();
      } catch (err) {
        if (this.#lost) return 'cancelled';
        const error = toGuildhallError(err);
        if (inFlight.draining && mayPass(error)) {
          await responses.release(stored.id, owner);
          return 'handed_over';
        }
        if (signal.aborted || !mayPass(error) || clock.monotonicMs() > untilMs) return await this.#fail(error);
        this.#context.logger.info({ response: stored.id, reason: error.message }, 'a background response waits');
        await clock.sleep(pauseMs, signal).catch(() => undefined);
      }
    }
  }

  /** One attempt, when the caller's quotas and the gateway have room for it. */
  async #admitted(): Promise<BackgroundOutcome> {
    const { chat, caller } = this.#options.job;
    const work = {
      caller,
      modelName: chat.model,
      priority: askedPriority(this.#context, caller, chat),
      controller: this.#controller,
      connection: null,
      onQuota: () => undefined,
    };
    return await withWorkScope(this.#context, work, (scope) => this.#attempt(scope));
  }

  async #attempt(scope: RequestScope): Promise<BackgroundOutcome> {
    const { stored, job } = this.#options;
    const { responses } = this.#context;
    const builder = new ResponseBuilder(builderOf(stored));
    builder.begin();
    const entries = await readLog(responses, stored.id, 0);
    addEntries(builder, entries);
    const telemetry = this.#telemetry();
    try {
      const asking: AskingRequest = { headers: {}, telemetry };
      const planned = await planChat(this.#context, job.chat, asking, job.caller, stored.id);
      const sink = new LogSink(planned, builder, (entry) => this.#append(JSON.stringify(entry)));
      const counts = await this.#generate(scope, planned, entries, sink);
      const usage = responseUsage(planned.promptTokens, counts);
      const outcome = await this.#end(builder, { status: statusOf(sink.finish), usage, error: null });
      telemetry.end(200, true);
      return outcome;
    } catch (err) {
      telemetry.failed(toGuildhallError(err));
      telemetry.end(500, true);
      throw err;
    }
  }

  async #generate(
    scope: RequestScope,
    planned: PlannedChat,
    entries: readonly LogEntry[],
    sink: LogSink,
  ): Promise<ChoiceCounts[]> {
    const flusher = this.#context.clock.setInterval(FLUSH_MS, () => void sink.flush());
    try {
      return await startGeneration(this.#context, scope, planned).run(withKnown(planned, entries), sink);
    } finally {
      flusher.cancel();
      await this.#written(sink, scope.signal);
    }
  }

  #telemetry(): RequestTelemetry {
    const { stored, job } = this.#options;
    const headers = job.traceparent === '' ? {} : { traceparent: job.traceparent };
    const told = { id: stored.id, method: 'POST', headers, routeOptions: { url: '/v1/responses' } };
    return new RequestTelemetry(this.#context, told, 'chat');
  }

  /** Writes what is left, also when Redis is away for a while. */
  async #written(sink: LogSink, signal: AbortSignal): Promise<void> {
    const { clock } = this.#context;
    const untilMs = clock.monotonicMs() + (signal.aborted ? LEASE_MS : PATIENCE_MS);
    while (!this.#lost && !(await sink.flush()) && clock.monotonicMs() < untilMs) await clock.sleep(RENEW_MS);
  }

  /** Adds to the log, or only keeps the lease. False where that must be tried again. */
  async #append(entry: string): Promise<boolean> {
    const { responses } = this.#context;
    const { stored, owner } = this.#options;
    if (this.#lost) return true;
    try {
      if (!(await responses.append(stored.id, owner, LEASE_MS, entry))) this.drop();
      return true;
    } catch {
      return false;
    }
  }

  async #fail(error: GuildhallError): Promise<BackgroundOutcome> {
    const { stored } = this.#options;
    const builder = new ResponseBuilder(builderOf(stored));
    builder.begin();
    addEntries(builder, await readLog(this.#context.responses, stored.id, 0));
    return await this.#end(builder, { status: 'failed', usage: null, error: responseError(error) });
  }

  async #end(builder: ResponseBuilder, how: Omit<ResponseEnd, 'atS'>): Promise<BackgroundOutcome> {
    const { clock, responses } = this.#context;
    const { stored, owner } = this.#options;
    builder.end({ ...how, atS: Math.floor(clock.nowMs() / 1000) });
    const over = toStored(stored.tenant, builder.snapshot(), builderOf(stored), stored.input);
    const untilMs = clock.monotonicMs() + PATIENCE_MS;
    for (;;) {
      try {
        return (await responses.finish(over, owner)) ? how.status : 'cancelled';
      } catch (err) {
        if (clock.monotonicMs() > untilMs) throw err;
        await clock.sleep(RENEW_MS);
      }
    }
  }
}

/** Whether an error may be gone after a while: no room, no router. */
function mayPass(error: GuildhallError): boolean {
  const { http } = errorInfo(error.code);
  return http === 429 || http === 503;
}

/** The plan of the one choice, from where the log ends. */
function withKnown(planned: PlannedChat, entries: readonly LogEntry[]): PlannedChat['plans'] {
  const ids = entries.flatMap((entry) => entry.ids);
  const numericsId = entries.find((entry) => entry.numericsId !== '')?.numericsId ?? '';
  if (ids.length === 0) return planned.plans;
  const logprobs = entries.flatMap((entry) => entry.logprobs ?? []);
  return planned.plans.map((plan) => ({ ...plan, known: { ids, numericsId, logprobs } }));
}

/** Collects what is generated, and writes it down from time to time. */
class LogSink implements ChoiceSink {
  readonly #builder: ResponseBuilder;
  readonly #source: TokenSource | null;
  readonly #append: (entry: LogEntry) => Promise<boolean>;
  finish: FinishName = 'stop';
  #pieces: Piece[] = [];
  #ids: number[] = [];
  #logprobs: TokenLogprobs[] = [];
  #numericsId = '';
  /** An entry that Redis has not taken yet. */
  #unwritten: LogEntry | null = null;
  #flushing: Promise<boolean> | null = null;

  constructor(planned: PlannedChat, builder: ResponseBuilder, append: (entry: LogEntry) => Promise<boolean>) {
    this.#source = planned.options.logprobs ? planned.options.source : null;
    this.#builder = builder;
    this.#append = append;
  }

  started(_index: number, _counts: ChoiceCounts, { numericsId }: router.Started): void {
    this.#numericsId = numericsId;
  }

  promptLogprobs(): void {}

  token(_index: number, { id, logprob, top }: router.TokenEvent): void {
    this.#ids.push(id);
    if (this.#source !== null) this.#logprobs.push({ logprob, top });
  }

  delta(_index: number, delta: ChoiceDelta): void {
    this.finish = delta.finish ?? this.finish;
    for (const piece of piecesOf(delta, this.#source)) this.#add(piece);
  }

  #add(piece: Piece): void {
    const last = this.#pieces.at(-1);
    const joined = last === undefined ? null : joinPieces(last, piece);
    if (joined === null) this.#pieces.push(piece);
    else this.#pieces[this.#pieces.length - 1] = joined;
  }

  /** Writes what there is. False when Redis did not take it, or all of it. */
  async flush(): Promise<boolean> {
    return await (this.#flushing ??= this.#flush().finally(() => (this.#flushing = null)));
  }

  async #flush(): Promise<boolean> {
    while (this.#unwritten !== null || this.#pieces.length > 0 || this.#ids.length > 0) {
      this.#unwritten ??= this.#takeEntry();
      if (!(await this.#append(this.#unwritten))) return false;
      addEntries(this.#builder, [this.#unwritten]);
      this.#unwritten = null;
    }
    return true;
  }

  #takeEntry(): LogEntry {
    const [pieces, ids, logprobs, numericsId] = [this.#pieces, this.#ids, this.#logprobs, this.#numericsId];
    this.#pieces = [];
    this.#ids = [];
    this.#logprobs = [];
    this.#numericsId = '';
    return { pieces, ids, numericsId, ...(logprobs.length === 0 ? {} : { logprobs }) };
  }
}
