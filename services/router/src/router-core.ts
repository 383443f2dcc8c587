import {
  authMetadata,
  channelCredentials,
  type Clock,
  Cluster,
  fail,
  type GuildhallError,
  type Logger,
  type MemberLease,
  type Metrics,
  type Readiness,
  VERSION,
} from '@guildhall/common';
import { IncrementalDetokenizer } from '@guildhall/model';
import { experts as wire, type router } from '@guildhall/proto';
import type { RouterConfig } from './config.ts';
import { Engine } from './engine.ts';
import { RemoteExperts } from './experts/dispatch.ts';
import { ExpertLoads, LoadReporter } from './experts/expert-loads.ts';
import type { RouterIdentity } from './experts/lane-stream.ts';
import { replyBytes, requestBytes } from './experts/plan.ts';
import { ExpertTopology } from './experts/topology.ts';
import { PagePool } from './kv/page-pool.ts';
import { StateSlots } from './kv/state-slots.ts';
import { type LoadedModel, MAX_PREFILL_SEQUENCES } from './load-model.ts';
import { encodeMember } from './member.ts';
import { DispatchMetrics, engineObserver, setGauges } from './metrics.ts';
import { routerRpc } from './rpc/generate.ts';
import { ModelRunner } from './runner.ts';
import { PrefillAllowance } from './scheduler/budget.ts';
import type { Detokenizer } from './stop-conditions.ts';

export interface RouterCoreOptions {
  config: RouterConfig;
  loaded: LoadedModel;
  identity: { id: string; incarnation: bigint };
  metrics: Metrics;
  clock: Clock;
  logger: Logger;
  onFatal: (err: unknown) => void;
}

/** Prefill messages are larger and wait behind decode. */
const PREFILL_REPLY_FACTOR = 3;

/** The parts of a router, wired: engine, experts, cluster. */
export class RouterCore {
  readonly loaded: LoadedModel;
  readonly metrics: Metrics;
  readonly id: string;
  readonly engine: Engine;
  readonly topology: ExpertTopology;
  readonly #o: RouterCoreOptions;
  readonly #cluster: Cluster;
  readonly #dispatch: DispatchMetrics;
  readonly #reporter: LoadReporter;
  readonly #abort = new AbortController();
  #lease: MemberLease | null = null;
  #draining = false;
  /** Once every expert has been there, a loss is something to wait for and no reason to refuse requests. */
  #wasCovered = false;
  #announced = '';

  constructor(options: RouterCoreOptions) {
    const { config, loaded, identity, metrics, clock, logger } = options;
    this.#o = options;
    this.loaded = loaded;
    this.metrics = metrics;
    this.id = identity.id;
    this.#dispatch = new DispatchMetrics(metrics);
    this.topology = new ExpertTopology({
      identity: identityOf(options),
      credentials: channelCredentials(config),
      metadata: authMetadata(config),
      clock,
      logger,
      parseReplyHeader: (frame) => loaded.native.parseReplyHeader(frame),
      onStray: (worker) => this.#dispatch.message(worker, 'stray'),
    });
    const { numLayers, moe } = loaded.config;
    const loads = new ExpertLoads({ numLayers, numExperts: moe.numExperts });
    this.engine = this.#makeEngine(loads);
    this.#cluster = new Cluster({ redis: config.redis, cluster: config.cluster, clock, logger });
    this.#reporter = new LoadReporter({
      loads,
      store: this.#cluster.loads,
      reporter: identity.id,
      epoch: () => this.topology.views.latest.epoch,
      everyMs: config.loadReportMs,
      clock,
      logger,
    });
    this.topology.views.onChange(() => this.#onViewChange());
    this.engine.start();
  }

  get stopping(): boolean {
    return this.#abort.signal.aborted;
  }

  /** Follows the cluster and registers in it; waits there while Redis is away. */
  async join(address: string, admin: string): Promise<void> {
    const { identity, onFatal } = this.#o;
    const { members, placements } = this.#cluster;
    members.onChange(() => this.topology.setMembers(members.members()));
    placements.onChange(({ bytes }) => this.topology.setPlacement(bytes));
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
    this.#reporter.start();
  }

  readiness(): Readiness {
    const { views } = this.topology;
    const reason = this.#draining
      ? 'shutting down'
      : this.#lease?.held === true
        ? this.topology.notCovered()
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
      engine,
      clock: this.#o.clock,
      limits: {
        servedModels: loaded.servedModels,
        numericsId: loaded.numericsId,
        tokenizerSize: loaded.model.vocabularySize,
        maxContext: loaded.maxContext,
        eosIds: loaded.eosIds,
      },
      routerId: this.id,
      notReady: () => this.#refusal(),
      info: () => this.#info(),
      onRefused: (code) => metrics.count('guildhall_errors_total', { code }),
    });
  }

  setGauges(): void {
    const { engine, topology, loaded } = this;
    const { latest } = topology.views;
    const links = topology.links.all();
    setGauges(this.metrics, loaded.servedModels[0] ?? '', {
      scheduler: engine.scheduler,
      pool: engine.scheduler.pool,
      slots: engine.scheduler.slots,
      coverage: 1 - latest.missing / latest.total,
      epoch: latest.epoch,
      streams: {
        decode: links.filter((link) => link.up('decode')).length,
        prefill: links.filter((link) => link.up('prefill')).length,
      },
      nativeBytes: loaded.runtime.memory(),
    });
  }

  /** Takes nothing new and gives what runs `limitMs` to finish; what is left then ends with `reason`. */
  async drain(limitMs: number, reason: GuildhallError): Promise<void> {
    const { clock, logger } = this.#o;
    this.#draining = true;
    this.#lease?.touch();
    const until = clock.monotonicMs() + limitMs;
    while (this.engine.scheduler.sequences().length > 0 && clock.monotonicMs() < until) await clock.sleep(20);
    logger.info({ left: this.engine.scheduler.sequences().length }, 'drained');
    await this.engine.stop(reason);
  }

  /** Ends everything. */
  async stop(): Promise<void> {
    this.#abort.abort();
    this.#reporter.stop();
    await this.engine.stop(fail('not_ready', 'the router is shutting down'));
    this.topology.close();
    await this.#cluster.close();
  }

  #makeEngine(loads: ExpertLoads): Engine {
    const { config, loaded, metrics, clock, logger, onFatal } = this.#o;
    const { native, pools } = loaded;
    const allowance = new PrefillAllowance(clock);
    return new Engine({
      clock,
      logger,
      views: this.topology.views,
      runner: this.#makeRunner(loads, allowance),
      pool: new PagePool(pools.kv.numPages),
      slots: new StateSlots(config.maxRunning),
      limits: {
        maxWaiting: config.maxWaiting,
        chunkTokens: config.chunkTokens,
        maxLogitRows: loaded.prefillLogitRows,
        maxPrefillSequences: MAX_PREFILL_SEQUENCES,
        stepBudgetMs: config.stepBudgetMs,
      },
      allowance,
      makeSampler: ({ sampler, promptIds }) => new native.SamplerState(loaded.config.vocab, sampler, promptIds),
      makeDetokenizer: () => this.#makeDetokenizer(),
      observer: engineObserver(metrics, loaded.servedModels[0] ?? ''),
      queueLimitMs: config.queueLimitMs,
      expertWaitMs: config.expertWaitMs,
      onFatal,
    });
  }

  #makeRunner(loads: ExpertLoads, allowance: PrefillAllowance): ModelRunner {
    const { config, loaded, identity, clock, logger } = this.#o;
    const { replyLimitMs } = config;
    const experts = new RemoteExperts({
      views: this.topology.views,
      clock,
      logger,
      loads,
      observer: this.#dispatch,
      incarnation: identity.incarnation,
      topK: loaded.config.moe.topK,
      rowBytes: loaded.rowBytes,
      combineMode: config.combine,
      replyLimitMs: { decode: replyLimitMs, prefill: replyLimitMs * PREFILL_REPLY_FACTOR },
      expertWaitMs: config.expertWaitMs,
    });
    return new ModelRunner({
      model: loaded.model,
      ops: loaded.native,
      experts,
      clock,
      allowance,
      pools: loaded.pools,
      prefillBuffers: loaded.prefillBuffers,
      decodeBuffers: loaded.decodeBuffers,
      microBatchMin: config.microBatchMin,
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
    const { views } = this.topology;
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
    return this.#wasCovered ? null : (this.topology.notCovered() ?? 'the router is starting');
  }

  #member(address: string, admin: string): Uint8Array {
    const { identity } = this.#o;
    const { loaded, engine, topology } = this;
    return encodeMember({
      ...identity,
      address,
      admin,
      version: VERSION,
      modelFingerprint: loaded.fingerprint,
      numericsId: loaded.numericsId,
      ackedEpoch: topology.views.ackedEpoch,
      ready: topology.views.covered && !this.#draining,
      draining: this.#draining,
      servedModels: loaded.servedModels,
      numLayers: loaded.config.numLayers,
      numExperts: loaded.config.moe.numExperts,
      running: engine.scheduler.numActive,
      waiting: engine.scheduler.numWaiting,
    });
  }

  #info(): router.RouterInfo {
    const { loaded, engine, topology } = this;
    const { ready, reason } = this.readiness();
    const { pool, numActive, numWaiting } = engine.scheduler;
    return {
      routerId: this.id,
      ready,
      modelFingerprint: loaded.fingerprint,
      numericsId: loaded.numericsId,
      epoch: BigInt(topology.views.latest.epoch),
      running: numActive,
      waiting: numWaiting,
      pagesTotal: pool.numPages,
      pagesFree: pool.numFree,
      maxContext: loaded.maxContext,
      servedModels: [...loaded.servedModels],
      notReadyReason: reason ?? '',
      expertRows: new Map([...this.#dispatch.rowsByWorker].map(([worker, rows]) => [worker, BigInt(rows)])),
    };
  }
}

/** What the hello says. Errors: `config_invalid` when one token's rows do not fit in a message. */
function identityOf({ config, loaded, identity }: RouterCoreOptions): RouterIdentity {
  const { topK, numExperts } = loaded.config.moe;
  const exact = config.combine === 'exact';
  const leastMessageBytes = Math.max(
    requestBytes(1, topK, loaded.rowBytes),
    replyBytes(exact ? topK : 1, loaded.rowBytes),
  );
  if (leastMessageBytes > config.maxMessageBytes) {
    const message = `one token's rows take ${leastMessageBytes} bytes`;
    throw fail('config_invalid', message, { field: 'maxMessageBytes' });
  }
  const { ROW_FORMAT_F32, ROW_FORMAT_BF16 } = wire.RowFormat;
  const { COMBINE_MODE_EXACT, COMBINE_MODE_PARTIAL } = wire.CombineMode;
  return {
    routerId: identity.id,
    incarnation: identity.incarnation,
    modelFingerprint: loaded.fingerprint,
    numericsId: loaded.numericsId,
    rowFormat: loaded.model.rowFormat === 'f32' ? ROW_FORMAT_F32 : ROW_FORMAT_BF16,
    combineMode: exact ? COMBINE_MODE_EXACT : COMBINE_MODE_PARTIAL,
    maxMessageBytes: config.maxMessageBytes,
    leastMessageBytes,
    hiddenSize: loaded.config.hidden,
    numLayers: loaded.config.numLayers,
    numExperts,
  };
}
