import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import type { sendUnaryData, Server, ServerWritableStream } from '@grpc/grpc-js';
import {
  bindGrpcServer,
  createGrpcServer,
  fail,
  type GuildhallError,
  newIncarnation,
  parseHostPort,
  shutDownGrpcServer,
  toGrpc,
} from '@guildhall/common';
import { control, router } from '@guildhall/proto';
import { TcpFront } from './tcp-front.ts';

type GenerateCall = ServerWritableStream<router.GenerateRequest, router.GenerateEvent>;
type DrainCall = ServerWritableStream<router.DrainRequest, router.DrainProgress>;

/** What the fake generates for a request. */
export interface FakeScript {
  tokens: readonly number[];
  /** How it ends after its last token; STOP by default. */
  finished?: Partial<router.Finished>;
  cachedTokens?: number;
  decodeCachedTokens?: number;
  /** Milliseconds of experts for each token that a call generates. */
  expertMsPerToken?: number;
  /** Thrown after the last token instead of finishing. */
  failure?: GuildhallError;
  /** The server dies, with every call on it, when the token at this position is due. */
  deadlyAt?: number;
}

export interface FakeRouterOptions {
  id?: string;
  numericsId?: string;
  fingerprint?: string;
  servedModels?: string[];
  maxContext?: number;
  clusterToken?: string | null;
  /** Tokens of a named page; 0 for a router that shares no prefixes. */
  pageTokens?: number;
  /** Bytes of a state; 0 for a model without. */
  stateBytes?: bigint;
  tiers?: Partial<router.CacheTier>[];
  script: (request: router.GenerateRequest) => FakeScript;
}

/** One Generate call as it was received. */
export interface RecordedCall {
  request: router.GenerateRequest;
  /** Tokens written so far. */
  sent: number;
  /** The caller cancelled it, or its connection broke. */
  cancelled: boolean;
  /** Finished was written. */
  finished: boolean;
  /** Moved was written. */
  moved: boolean;
  /** Resolves when `cancelled` becomes true. */
  whenCancelled: Promise<void>;
}

/** Log-probability that the fake gives a token; alternatives follow below it. */
export function fakeLogprob(id: number, rank = 0): number {
  return -((id % 7) + 1) / 8 - rank;
}

/**
 * A real gRPC server of `guildhall.v1.Router` that replays scripted tokens. It records its calls and can be told to
 * fail, to hold, to move its calls away, and to die in the middle of a stream. A resumed call must bring the beginning
 * of the same script, a moved one also where it was parked.
 */
export class FakeRouter {
  readonly calls: RecordedCall[] = [];
  /** Put into the member; change it and call `touch` of the lease that shows it. */
  ready = true;
  draining = false;
  running = 0;
  waiting = 0;
  pendingPrefillTokens = 0;
  prefillMsPerToken = 0;
  decodeStepMs = 0;
  /** Calls that were moved away end only by `endMoved`: the end of a call looks like a cancel of its caller. */
  keepMovedOpen = false;
  readonly #movedOpen: GenerateCall[] = [];
  /** So many of the next calls of GetInfo fail. */
  infoFailures = 0;
  /** Drain requests as they were received. */
  readonly drains: router.DrainRequest[] = [];
  /** Thrown by drains while set. */
  drainFailure: GuildhallError | null = null;
  /** What drains report while set, whatever runs. */
  drainScript: Partial<router.DrainProgress>[] | null = null;
  readonly incarnation = newIncarnation();
  readonly #options: Required<Omit<FakeRouterOptions, 'clusterToken'>>;
  readonly #server: Server;
  #front: TcpFront | null = null;
  #failures: GuildhallError[] = [];
  #dieAt: number | null = null;
  #endAt: number | null = null;
  #endAlways = false;
  #dead = false;
  #moveAt: number | null = null;
  #movingAll = false;
  readonly #startedMoving = Promise.withResolvers<void>();
  #holdAt: number | null = null;
  #held = Promise.withResolvers<void>();

  private constructor(options: FakeRouterOptions) {
    this.#options = {
      id: 'router-1',
      numericsId: 'f32-fma-v1/f32/act-f32/row-f32/kv-f32/exact',
      fingerprint: '0123456789abcdef0123456789abcdef',
      servedModels: ['tiny'],
      maxContext: 4096,
      pageTokens: 0,
      stateBytes: 0n,
      tiers: [],
      ...options,
    };
    const config = { clusterToken: options.clusterToken ?? null, tlsCert: null, tlsKey: null, tlsCa: null };
    this.#server = createGrpcServer(config, { maxMessageBytes: 64 << 20 });
    this.#server.addService(router.RouterService, {
      generate: (call: GenerateCall) => void this.#generate(call),
      getInfo: (_call: unknown, callback: sendUnaryData<router.RouterInfo>) => {
        if (this.infoFailures-- > 0) callback(toGrpc(fail('not_ready', 'no information for now')));
        else callback(null, this.#info());
      },
      drain: (call: DrainCall) => void this.#drain(call),
    });
  }

  static async start(options: FakeRouterOptions): Promise<FakeRouter> {
    const fake = new FakeRouter(options);
    const bound = await bindGrpcServer(fake.#server, '127.0.0.1:0');
    fake.#front = await TcpFront.start(parseHostPort(bound).port);
    return fake;
  }

  get id(): string {
    return this.#options.id;
  }

  get address(): string {
    return this.#front?.address ?? '';
  }

  /** The router's entry among the members. */
  member(): control.Member {
    const { id, fingerprint, numericsId, servedModels, pageTokens } = this.#options;
    return control.Member.create({
      kind: control.MemberKind.MEMBER_KIND_ROUTER,
      id,
      incarnation: this.incarnation,
      address: this.address,
      modelFingerprint: fingerprint,
      numericsId,
      servedModels,
      ready: this.ready,
      draining: this.draining,
      running: this.running,
      waiting: this.waiting,
      pageTokens,
      pendingPrefillTokens: BigInt(this.pendingPrefillTokens),
      prefillMsPerToken: this.prefillMsPerToken,
      decodeStepMs: this.decodeStepMs,
    });
  }

  /** The next calls fail with these errors, in order, before anything is sent. */
  failNext(...errors: GuildhallError[]): void {
    this.#failures.push(...errors);
  }

  /** The server dies, with every call on it, when a call has sent the token at this position. */
  dieAfterToken(index: number): void {
    this.#dieAt = index;
  }

  /** Killed, by a call or from outside. */
  get dead(): boolean {
    return this.#dead;
  }

  /** The next call that gets there ends without Finished after the token at this position. */
  endAfterToken(index: number | null): void {
    this.#endAt = index;
  }

  /** Every call ends without Finished before its first token. */
  endAlways(on = true): void {
    this.#endAlways = on;
  }

  /** The next call that gets there is moved away before the token at this position; before Started when negative. */
  moveBeforeToken(index: number | null): void {
    this.#moveAt = index;
  }

  endMoved(): void {
    for (const call of this.#movedOpen.splice(0)) call.end();
  }

  /** Calls stop before the token at this position until `release`. */
  holdBeforeToken(index: number): void {
    this.#holdAt = index;
    this.#held = Promise.withResolvers<void>();
  }

  release(): void {
    this.#holdAt = null;
    this.#held.resolve();
  }

  /** Dies as a killed process does. */
  kill(): void {
    this.#dead = true;
    this.#front?.kill();
    this.release();
  }

  /** Ends it and waits until nothing of it is left. */
  async stop(): Promise<void> {
    this.kill();
    await this.#front?.closed();
    await shutDownGrpcServer(this.#server, 1000);
  }

  #info(): router.RouterInfo {
    const { id, fingerprint, numericsId, servedModels, maxContext, pageTokens, stateBytes, tiers } = this.#options;
    return router.RouterInfo.create({
      routerId: id,
      ready: this.ready,
      modelFingerprint: fingerprint,
      numericsId,
      servedModels,
      maxContext,
      pageTokens,
      pageBytes: BigInt(pageTokens * 1024),
      stateBytes,
      tiers: tiers.map((tier) => router.CacheTier.create(tier)),
    });
  }

  /** Moves every running call away, as it gets to its next token, and reports until none is left. */
  async #drain(call: DrainCall): Promise<void> {
    this.drains.push(call.request);
    if (this.drainFailure !== null) {
      call.emit('error', toGrpc(this.drainFailure));
      return;
    }
    if (this.drainScript !== null) {
      for (const step of this.drainScript) call.write(router.DrainProgress.create(step));
      call.end();
      return;
    }
    this.draining = true;
    this.#movingAll = true;
    const open = (): number => this.calls.filter((one) => !one.moved && !one.finished && !one.cancelled).length;
    const progress = (): router.DrainProgress =>
      router.DrainProgress.create({ running: open(), moved: this.calls.filter((one) => one.moved).length });
    call.write(progress());
    this.#startedMoving.resolve();
    for (let tries = 0; open() > 0 && tries < 1000; tries += 1) await sleep(5);
    call.write(progress());
    call.end();
  }

  async #generate(call: GenerateCall): Promise<void> {
    const { promise: whenCancelled, resolve } = Promise.withResolvers<void>();
    const record: RecordedCall = {
      request: call.request,
      sent: 0,
      cancelled: false,
      finished: false,
      moved: false,
      whenCancelled,
    };
    this.calls.push(record);
    call.on('cancelled', () => {
      record.cancelled = true;
      resolve();
    });
    call.on('error', () => undefined);
    try {
      const failure = this.#failures.shift();
      if (failure !== undefined) throw failure;
      if (this.draining) throw fail('not_ready', 'this router drains');
      await this.#replay(call, record);
    } catch (err) {
      if (!record.cancelled) call.emit('error', toGrpc(err));
    }
  }

  async #replay(call: GenerateCall, record: RecordedCall): Promise<void> {
    const { request } = call;
    const script = this.#options.script(request);
    checkResume(request, script, this.#options.numericsId);
    const { id, numericsId } = this.#options;
    if (this.#moves(-1)) return this.#moveAway(call, record);
    const cachedTokens = script.cachedTokens ?? 0;
    await this.#write(call, record, { $case: 'started', value: { routerId: id, numericsId, epoch: 1n, cachedTokens } });
    if (this.#endAlways) {
      call.end();
      return;
    }
    if (request.promptLogprobs) {
      await this.#write(call, record, { $case: 'promptLogprobs', value: { tokens: promptLogprobs(request) } });
    }
    const end = Math.min(script.tokens.length, request.stop?.maxTokens ?? 0);
    for (let index = request.generatedIds.length; index < end && !record.cancelled; index += 1) {
      if (script.deadlyAt !== undefined && index >= script.deadlyAt) return this.kill();
      if (this.#holdAt === index)
        await Promise.race([this.#held.promise, record.whenCancelled, this.#startedMoving.promise]);
      if (this.#moves(index)) return this.#moveAway(call, record);
      await this.#write(call, record, {
        $case: 'token',
        value: {
          ...tokenEvent(request, index, script.tokens[index] ?? 0),
          expertMs: (script.expertMsPerToken ?? 0) * (record.sent + 1),
        },
      });
      record.sent += 1;
      if (this.#dieAt === index) return this.kill();
      if (this.#endAt === index) {
        this.#endAt = null;
        call.end();
        return;
      }
    }
    if (record.cancelled) return;
    if (script.failure !== undefined) throw script.failure;
    await this.#write(call, record, { $case: 'finished', value: finishedEvent(request, script, end) });
    record.finished = true;
    call.end();
  }

  #moves(index: number): boolean {
    if (this.#movingAll) return true;
    if (this.#moveAt === null || (this.#moveAt < 0 ? index >= 0 : index !== this.#moveAt)) return false;
    this.#moveAt = null;
    return true;
  }

  async #moveAway(call: GenerateCall, record: RecordedCall): Promise<void> {
    const { requestId, promptIds, generatedIds } = record.request;
    const numComputed = promptIds.length + generatedIds.length + record.sent;
    const value = { routerId: this.id, address: this.address, handle: `${this.id}/${requestId}`, numComputed };
    record.moved = true;
    await this.#write(call, record, { $case: 'moved', value });
    if (this.keepMovedOpen) this.#movedOpen.push(call);
    else call.end();
  }

  /** Waits for the caller to read, as the real router must not queue without end. */
  async #write(call: GenerateCall, record: RecordedCall, event: router.GenerateEvent['event']): Promise<void> {
    if (record.cancelled || call.write({ event })) return;
    await Promise.race([once(call, 'drain'), record.whenCancelled]);
  }
}

function checkResume(request: router.GenerateRequest, script: FakeScript, numericsId: string): void {
  if (request.numericsId !== '' && request.numericsId !== numericsId)
    throw fail('numerics_mismatch', 'another numerics class');
  const same = request.generatedIds.every((id, i) => id === script.tokens[i]);
  if (!same) throw fail('integrity', 'the resumed tokens are not the ones that were sent');
  const { moved, holder } = request;
  if (moved !== undefined && (request.numericsId === '' || !moved.handle.endsWith(`/${request.requestId}`)))
    throw fail('integrity', 'a moved sequence comes without its class, or with the handle of another one');
  if (holder !== undefined && (holder.routerId === '' || holder.address === '' || holder.tokens < 1))
    throw fail('integrity', 'a holder without address or tokens');
}

function tokenEvent(request: router.GenerateRequest, index: number, id: number): router.TokenEvent {
  const topLogprobs = request.sampling?.topLogprobs ?? -1;
  const top = Array.from({ length: Math.max(0, topLogprobs) }, (_, rank) => ({
    id: id + rank,
    logprob: fakeLogprob(id, rank),
  }));
  return { index, id, logprob: topLogprobs < 0 ? 0 : fakeLogprob(id), top, expertMs: 0 };
}

function promptLogprobs(request: router.GenerateRequest): router.TokenEvent[] {
  return request.promptIds.slice(1).map((id, i) => tokenEvent(request, i + 1, id));
}

function finishedEvent(request: router.GenerateRequest, script: FakeScript, end: number): router.Finished {
  const cut = end < script.tokens.length;
  return router.Finished.create({
    reason: cut ? router.FinishReason.FINISH_REASON_LENGTH : router.FinishReason.FINISH_REASON_STOP,
    promptTokens: request.promptIds.length,
    completionTokens: end,
    cachedTokens: script.cachedTokens ?? 0,
    decodeCachedTokens: script.decodeCachedTokens ?? 0,
    expertMs: (script.expertMsPerToken ?? 0) * (end - request.generatedIds.length),
    ...(cut ? {} : script.finished),
  });
}
