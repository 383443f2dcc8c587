import {
  type Clock,
  Cluster,
  fail,
  type Logger,
  type MemberLease,
  type Metrics,
  once,
  type Readiness,
  type Tracing,
  twoDigits,
  VERSION,
} from '@guildhall/common';
import { IncrementalDetokenizer } from '@guildhall/model';
import type { router } from '@guildhall/proto';
import type { RouterConfig } from './config.ts';
import { Drain } from './drain.ts';
import { Engine } from './engine.ts';
import { Grammars } from './grammar/grammars.ts';
import { vocabularyOf } from './grammar/vocabulary.ts';
import { LocalHome } from './experts/local-home.ts';
import { RemoteHome } from './experts/remote-home.ts';
import type { ExpertHome } from './experts/source.ts';
import type { KvHome } from './kv-home.ts';
import { type LoadedModel, MAX_PREFILL_SEQUENCES } from './load-model.ts';
import { LoadMeter } from './load-meter.ts';
import { decodeMember, encodeMember, type RouterMember } from './member.ts';
import { DispatchMetrics, engineObserver, setGauges } from './metrics.ts';
import { routerRpc } from './rpc/generate.ts';
import { ModelRunner } from './runner.ts';
import { PrefillAllowance } from './scheduler/budget.ts';
import type { Detokenizer } from './stop-conditions.ts';
import { bothObservers, engineTraces } from './telemetry/engine-traces.ts';

export interface RouterCoreOptions {
  config: RouterConfig;
  loaded: LoadedModel;
  kvHome: KvHome;
  identity: { id: string; incarnation: bigint };
  metrics: Metrics;
  tracing: Tracing;
  clock: Clock;
  logger: Logger;
  onFatal: (err: unknown) => void;
}

/** The parts of a router, wired: engine, experts, cluster. */
export class RouterCore {
  readonly loaded: LoadedModel;
  readonly metrics: Metrics;
  readonly id: string;
  readonly engine: Engine;
  readonly experts: ExpertHome;
  readonly kvHome: KvHome;
  /** Null where the checkpoint has no tokenizer. */
  readonly grammars: Grammars | null;
  /** Moves what runs here to other routers. */
  readonly moving: Drain;
  readonly #o: RouterCoreOptions;
  readonly #cluster: Cluster;
  readonly #dispatch: DispatchMetrics;
  /** What others weigh of its load. */
  readonly #load: LoadMeter;
  readonly #abort = new AbortController();
  /**
   * Takes nothing new. What runs is moved to other routers if there are any, or else gets `drainMs` to finish; what is left
   * then ends with `not_ready`. Every call gets the one drain that there is.
   */
  readonly drain = once(() => this.#runDrain());
  #lease: MemberLease | null = null;
  #draining = false;
  #address = '';
  /** Once every expert has been there, a loss is something to wait for and no reason to refuse requests. */
  #wasCovered = false;
  #announced = '';
  #pausesCounted = 0;

  constructor(options: RouterCoreOptions) {
    const { config, loaded, identity, metrics, clock, logger } = options;
    this.#o = options;
    this.loaded = loaded;
    this.metrics = metrics;
    this.id = identity.id;
    this.#dispatch = new DispatchMetrics(metrics);
    this.#load = new LoadMeter(clock);
    this.experts = makeHome(options, this.#dispatch);
    this.kvHome = options.kvHome;
    this.grammars = this.#makeGrammars();
    this.engine = this.#makeEngine();
    this.kvHome.attach(this.engine.scheduler);
    this.moving = this.#makeDrain();
    this.#cluster = new Cluster({ redis: config.redis, cluster: config.cluster, access: config, clock, logger });
    this.experts.views.onChange(() => this.#onViewChange());
    // Experts of this process are there from the beginning.
    this.#onViewChange();
    this.engine.start();
  }

  get stopping(): boolean {
    return this.#abort.signal.aborted;
  }

  /** Follows the cluster and registers in it; waits there while Redis is away. */
  async join(address: string, admin: string): Promise<void> {
    const { identity, onFatal } = this.#o;
    this.#address = address;
    this.experts.follow(this.#cluster);
    await this.#cluster.start();
    this.#lease = this.#cluster.lease({
      kind: 'router',
      ...identity,
      value: () => this.#member(address, admin),
      onLost: onFatal,
      onRenew: (up) => {
        this.metrics.gauge('guildhall_redis_up', up ? 1 : 0);
        this.metrics.count('guildhall_lease_renewals_total', { outcome: up ? 'renewed' : 'failed' });
      },
    });
    await this.#lease.join(this.#abort.signal);
    this.kvHome.publish(this.#cluster, onFatal);
    this.experts.joined();
  }

  readiness(): Readiness {
    const { views } = this.experts;
    const reason = this.#draining
      ? 'shutting down'
      : this.#lease?.held === true
        ? this.experts.notCovered()
        : 'not registered in Redis yet';
    return {
      ready: reason === null,
      reason,
      details: { epoch: views.latest.epoch, numericsId: this.loaded.numericsId },
    };
  }

  /** The service that the gateway calls. */
  rpc(): router.RouterServer {
    const { loaded, engine, metrics } = this;
    return routerRpc({
      engine: this.#load.counting(engine),
      drain: this.moving,
      address: () => this.#address,
      clock: this.#o.clock,
      limits: {
        servedModels: loaded.servedModels,
        numericsId: loaded.numericsId,
        tokenizerSize: loaded.model.vocabularySize,
        maxContext: loaded.maxContext,
        eosIds: loaded.eosIds,
      },
      grammars: this.grammars,
      routerId: this.id,
      notReady: () => this.#refusal(),
      tracing: this.#o.tracing,
      info: () => this.#info(),
      onRefused: (code) => metrics.count('guildhall_errors_total', { code }),
    });
  }

  setGauges(): void {
    const { engine, experts, loaded } = this;
    const { latest } = experts.views;
    this.kvHome.setGauges();
    this.#dispatch.sweep();
    setGauges(this.metrics, loaded.servedModels[0] ?? '', {
      scheduler: engine.scheduler,
      pool: engine.scheduler.pool,
      slots: engine.scheduler.slots,
      coverage: 1 - latest.missing / latest.total,
      epoch: latest.epoch,
      streams: { decode: experts.openStreams('decode'), prefill: experts.openStreams('prefill') },
      nativeBytes: loaded.runtime.memory(),
    });
    const { count } = loaded.runtime.prefillPauses();
    this.metrics.count('guildhall_prefill_pauses_total', {}, count - this.#pausesCounted);
    this.#pausesCounted = count;
  }

  async #runDrain(): Promise<void> {
    const { clock, logger, config } = this.#o;
    this.#announceDrain();
    const until = clock.monotonicMs() + config.drainMs;
    const left = (): number => this.engine.scheduler.sequences().length + this.kvHome.peers.parked.size;
    for (;;) {
      // In a rolling update the router that could take over may become ready after this one was asked to go.
      if (!this.moving.begun && this.#othersServe()) this.moving.begin(0);
      if (left() === 0 || clock.monotonicMs() >= until) break;
      await clock.sleep(20);
    }
    logger.info({ left: left() }, 'drained');
    await this.engine.stop(fail('not_ready', 'the router is shutting down'));
  }

  #announceDrain(): void {
    this.#draining = true;
    this.#lease?.touch();
  }

  /** True if another router could go on with what runs here. */
  #othersServe(): boolean {
    const { fingerprint, numericsId } = this.loaded;
    return this.#cluster.members.members().some(({ kind, id, value }) => {
      if (kind !== 'router' || id === this.id) return false;
      const other = decodeMember(value);
      const same = other?.modelFingerprint === fingerprint && other.numericsId === numericsId;
      return same && other.ready && !other.draining;
    });
  }

  /** Ends everything. */
  async stop(): Promise<void> {
    this.#abort.abort();
    this.experts.stop();
    await this.engine.stop(fail('not_ready', 'the router is shutting down'));
    await this.grammars?.stop();
    await this.kvHome.close();
    this.experts.close();
    await this.#cluster.close();
  }

  #makeDrain(): Drain {
    const { metrics, clock, logger } = this.#o;
    return new Drain({
      engine: this.engine,
      parked: this.kvHome.peers.parked,
      park: (record) => this.kvHome.peers.park(record),
      onBegin: () => this.#announceDrain(),
      clock,
      metrics,
      logger,
    });
  }

  #makeEngine(): Engine {
    const { config, loaded, metrics, tracing, clock, logger, onFatal } = this.#o;
    const { native } = loaded;
    const observer = this.#load.observing(engineObserver(metrics, loaded.servedModels[0] ?? ''));
    const allowance = new PrefillAllowance({
      clock,
      threads: loaded.runtime,
      // With experts of this process a forward is one native call.
      alternate: config.experts === 'local',
      decodeSlowdown: config.decodeSlowdown,
      burstMs: config.prefillBurstMs,
    });
    return new Engine({
      clock,
      logger,
      views: this.experts.views,
      runner: this.#load.timing(this.#makeRunner(allowance)),
      kv: this.kvHome.kv.manager,
      restorer: this.kvHome.kv.restorer,
      swapper: this.kvHome.swapper,
      prefetch: (seq) => this.kvHome.prefetch(seq),
      limits: {
        maxWaiting: config.maxWaiting,
        chunkTokens: config.chunkTokens,
        maxLogitRows: loaded.prefillLogitRows,
        maxPrefillSequences: MAX_PREFILL_SEQUENCES,
        stepBudgetMs: config.stepBudgetMs,
        priorityAgingMs: config.priorityAgingMs,
        tenantWeights: new Map(config.tenantWeights.map(({ tenant, weight }) => [tenant, weight])),
      },
      allowance,
      makeSampler: ({ sampler, promptIds }) => new native.SamplerState(loaded.config.vocab, sampler, promptIds),
      makeGrammar: ({ grammar, generatedIds }) =>
        grammar === null ? null : (this.grammars?.matcher(grammar, generatedIds) ?? null),
      makeDetokenizer: () => this.#makeDetokenizer(),
      observer: tracing.enabled ? bothObservers(observer, engineTraces) : observer,
      queueLimitMs: config.queueLimitMs,
      expertWaitMs: config.expertWaitMs,
      onFatal,
    });
  }

  #makeGrammars(): Grammars | null {
    const { config, loaded, clock, logger } = this.#o;
    if (loaded.tokenizer === null) return null;
    const grammars = new Grammars({
      vocabulary: vocabularyOf(loaded.tokenizer, loaded.config.vocab, loaded.eosIds),
      clock,
      logger,
      compileLimitMs: config.grammarCompileMs,
      memoryBytes: config.grammarMemory,
      onCompiled: (outcome, ms) => this.metrics.observe('guildhall_grammar_compile_seconds', ms / 1000, { outcome }),
      onPrepared: (outcome) => this.metrics.count('guildhall_grammar_requests_total', { outcome }),
    });
    grammars.start();
    return grammars;
  }

  #makeRunner(allowance: PrefillAllowance): ModelRunner {
    const { config, loaded, clock } = this.#o;
    return new ModelRunner({
      model: loaded.model,
      ops: loaded.native,
      experts: this.experts.source,
      clock,
      allowance,
      pools: loaded.pools,
      prefillBuffers: loaded.prefillBuffers,
      decodeBuffers: loaded.decodeBuffers,
      microBatchMin: config.microBatchMin,
      onMasks: (ms) => this.metrics.observe('guildhall_grammar_mask_seconds', ms / 1000),
    });
  }

  #makeDetokenizer(): Detokenizer {
    const { tokenizer } = this.loaded;
    if (tokenizer === null)
      throw fail('unsupported', 'stop strings need a tokenizer, which the checkpoint lacks', {
        field: 'stop.stop_strings',
      });
    return new IncrementalDetokenizer(tokenizer, { skipSpecial: true });
  }

  #onViewChange(): void {
    const { views } = this.experts;
    if (views.covered && !this.#wasCovered) {
      this.#wasCovered = true;
      this.#o.logger.info({ epoch: views.latest.epoch }, 'every expert has a worker: ready');
    }
    // Only what the others wait for is written at once; the rest goes with the next renewal.
    const said = `${views.covered}/${views.ackedEpoch}`;
    if (said === this.#announced) return;
    this.#announced = said;
    this.#lease?.touch();
  }

  #refusal(): string | null {
    if (this.#draining) return 'the router is shutting down';
    return this.#wasCovered ? null : (this.experts.notCovered() ?? 'the router is starting');
  }

  #member(address: string, admin: string): Uint8Array {
    const { identity } = this.#o;
    const { loaded, engine, experts } = this;
    return encodeMember({
      ...identity,
      address,
      admin,
      node: this.#o.config.node,
      version: VERSION,
      modelFingerprint: loaded.fingerprint,
      numericsId: loaded.numericsId,
      ackedEpoch: experts.views.ackedEpoch,
      ready: experts.views.covered && !this.#draining,
      draining: this.#draining,
      servedModels: loaded.servedModels,
      numLayers: loaded.config.numLayers,
      numExperts: loaded.config.moe.numExperts,
      running: engine.scheduler.numActive,
      waiting: engine.scheduler.numWaiting,
      ...this.#pace(),
      ...this.#load.load,
      kvUsage: twoDigits(engine.scheduler.pool.numUsed / engine.scheduler.pool.numPages),
      holdings: experts.holdings,
    });
  }

  /** What a gateway predicts from; rates are 0 until they are measured, so that a fresh router looks like the others. */
  #pace(): Pick<RouterMember, 'pageTokens' | 'pendingPrefillTokens' | 'prefillMsPerToken' | 'decodeStepMs'> {
    const { scheduler } = this.engine;
    const tokens = this.#o.config.chunkTokens;
    const sequences = Math.max(1, scheduler.numActive);
    const { prefillCost, decodeCost } = scheduler;
    const prefillMs = prefillCost.predict({ tokens, depthTokens: (tokens * tokens) / 2 }) / tokens;
    const decodeMs = decodeCost.predict({ tokens: sequences, depthTokens: sequences * TYPICAL_DEPTH });
    return {
      pageTokens: this.#pageTokens,
      pendingPrefillTokens: scheduler.pendingPrefillTokens,
      prefillMsPerToken: prefillCost.observedTokens < MEASURED_TOKENS ? 0 : prefillMs,
      decodeStepMs: decodeCost.observedTokens === 0 ? 0 : decodeMs,
    };
  }

  /** Tokens of a named page; 0 where prefixes are not shared. */
  get #pageTokens(): number {
    return this.#o.config.prefixCache === 'off' ? 0 : this.#o.config.pageTokens;
  }

  #info(): router.RouterInfo {
    const { loaded, engine, experts } = this;
    const { ready, reason } = this.readiness();
    const { pool, numActive, numWaiting } = engine.scheduler;
    return {
      routerId: this.id,
      ready,
      modelFingerprint: loaded.fingerprint,
      numericsId: loaded.numericsId,
      epoch: BigInt(experts.views.latest.epoch),
      running: numActive,
      waiting: numWaiting,
      pagesTotal: pool.numPages,
      pagesFree: pool.numFree + pool.numIdle,
      maxContext: loaded.maxContext,
      servedModels: [...loaded.servedModels],
      notReadyReason: reason ?? '',
      pageTokens: this.#pageTokens,
      pageBytes: BigInt(loaded.pools.kv.pageBytes),
      stateBytes: BigInt(loaded.pools.states?.slotBytes ?? 0),
      tiers: this.kvHome.tiers(),
      expertRows: new Map([...this.#dispatch.rowsByWorker].map(([worker, rows]) => [worker, BigInt(rows)])),
    };
  }
}

/** Prompt tokens after which a router's rate of prefill is its own. */
const MEASURED_TOKENS = 256;
/** Context of a sequence for which a decode step is predicted, tokens. */
const TYPICAL_DEPTH = 1024;

/** Experts in this process if they were loaded, else in workers. */
function makeHome(options: RouterCoreOptions, observer: DispatchMetrics): ExpertHome {
  const { config, loaded, identity, clock, logger } = options;
  if (loaded.shard === null) return new RemoteHome({ config, loaded, identity, clock, logger, observer });
  const { numLayers, moe } = loaded.config;
  const shape = { numLayers, numExperts: moe.numExperts };
  return new LocalHome({ shard: loaded.shard, shape, topK: moe.topK, routerId: identity.id, observer });
}
