import { authMetadata, channelCredentials, type Clock, type Cluster, fail, type Logger } from '@guildhall/common';
import { experts as wire } from '@guildhall/proto';
import type { RouterConfig } from '../config.ts';
import type { LoadedModel } from '../load-model.ts';
import { Calls } from './calls.ts';
import { CoverageWatch } from './coverage-watch.ts';
import { type Fallback, RemoteExperts } from './dispatch.ts';
import { ExpertLoads, LoadReporter } from './expert-loads.ts';
import { FallbackViews } from './fallback/fallback-views.ts';
import type { LocalFallback } from './fallback/local-fallback.ts';
import { openFallback } from './fallback/open-fallback.ts';
import type { RouterIdentity } from './lane-stream.ts';
import type { ExpertObserver, Note } from './observer.ts';
import { replyBytes, requestBytes } from './plan.ts';
import { type CallOutcome, DispatchPolicy } from './policy/index.ts';
import type { EngineViews, ExpertHome, ExpertSource } from './source.ts';
import { ExpertTopology } from './topology.ts';

export interface RemoteHomeOptions {
  config: RouterConfig;
  loaded: LoadedModel;
  identity: { id: string; incarnation: bigint };
  clock: Clock;
  logger: Logger;
  observer: ExpertObserver;
}

/** Prefill messages are larger and wait behind decode. */
const PREFILL_REPLY_FACTOR = 3;

/** Experts in workers: links to them, the placement in force, and reports about their load. */
export class RemoteHome implements ExpertHome {
  readonly views: EngineViews;
  readonly source: ExpertSource;
  readonly holdings = [];
  readonly #o: RemoteHomeOptions;
  readonly #topology: ExpertTopology;
  readonly #loads: ExpertLoads;
  readonly #policy: DispatchPolicy;
  readonly #calls: Calls;
  readonly #fallback: LocalFallback | null;
  readonly #fallbackViews: FallbackViews | null;
  #reporter: LoadReporter | null = null;
  #cluster: Cluster | null = null;

  /**
   * Errors: `config_invalid` when one token's rows do not fit in a message, or when experts are to be computed here that
   * the checkpoint lacks.
   */
  constructor(options: RemoteHomeOptions) {
    const { config, loaded, clock, logger, observer } = options;
    this.#o = options;
    this.#policy = this.#makePolicy();
    this.#calls = new Calls({ policy: this.#policy, clock, logger, replyLimitMs: replyLimits(config) });
    this.#topology = new ExpertTopology({
      identity: identityOf(options),
      credentials: channelCredentials(config),
      metadata: authMetadata(config),
      clock,
      logger,
      parseReplyHeader: (frame) => loaded.native.parseReplyHeader(frame),
      onStray: (worker) => observer.message(worker, 'stray'),
      onGone: (worker) => {
        this.#policy.forget(worker);
        observer.gone(worker);
      },
    });
    const { numLayers, moe } = loaded.config;
    const seed = Number(BigInt.asUintN(32, options.identity.incarnation));
    this.#loads = new ExpertLoads({ numLayers, numExperts: moe.numExperts, topK: moe.topK }, seed);
    const { views } = this.#topology;
    const note: Note = (...event) => this.#note(...event);
    new CoverageWatch({ views, notCovered: () => this.#topology.notCovered(), observer, note, clock, logger });
    this.#fallback = openFallback(options);
    this.#fallbackViews =
      this.#fallback === null ? null : new FallbackViews(views, clock, config.expertFallbackAfterMs);
    this.views = this.#fallbackViews ?? views;
    this.source = this.#makeSource();
  }

  follow(cluster: Cluster): void {
    this.#cluster = cluster;
    const { members, placements } = cluster;
    members.onChange(() => this.#topology.setMembers(members.members()));
    placements.onChange(({ bytes }) => this.#topology.setPlacement(bytes));
    this.#reporter = new LoadReporter({
      loads: this.#loads,
      store: cluster.loads,
      reporter: this.#o.identity.id,
      epoch: () => this.views.latest.epoch,
      everyMs: this.#o.config.loadReportMs,
      clock: this.#o.clock,
      logger: this.#o.logger,
    });
  }

  joined(): void {
    this.#reporter?.start();
  }

  notCovered(): string | null {
    return this.#fallbackViews?.active === true ? null : this.#topology.notCovered();
  }

  openStreams(lane: 'decode' | 'prefill'): number {
    return this.#topology.links.all().filter((link) => link.up(lane)).length;
  }

  stop(): void {
    this.#reporter?.stop();
  }

  close(): void {
    this.#fallbackViews?.stop();
    this.#fallback?.close();
    this.#topology.close();
    this.#calls.close();
  }

  #makePolicy(): DispatchPolicy {
    const { config, identity, clock, observer } = this.#o;
    return new DispatchPolicy({
      clock,
      // Routers that start together shall not choose alike.
      seed: Number(identity.incarnation & 0x7fff_ffffn),
      limitMs: replyLimits(config),
      hedgeShare: config.hedgeShare,
      onBreaker: (worker, state, outcome) => {
        observer.breaker(worker, state === 'open');
        this.#tellBreaker(worker, state === 'open', outcome);
      },
    });
  }

  #tellBreaker(worker: string, open: boolean, outcome: CallOutcome): void {
    const { logger } = this.#o;
    if (open) {
      logger.warn({ worker, outcome }, 'worker is sick: it gets only what nobody else can answer');
      this.#note('worker_sick', `calls to ${worker} go wrong, the last one was ${outcome}`, { worker, outcome });
    } else {
      logger.info({ worker }, 'worker answers again');
      this.#note('worker_recovered', `${worker} answers again`, { worker });
    }
  }

  #note(...[kind, message, details]: Parameters<Note>): void {
    this.#cluster?.eventLog.append(kind, this.#o.identity.id, message, details);
  }

  #makeSource(): RemoteExperts {
    const { config, loaded, identity, clock, logger, observer } = this.#o;
    return new RemoteExperts({
      views: this.#topology.views,
      clock,
      logger,
      loads: this.#loads,
      observer,
      incarnation: identity.incarnation,
      topK: loaded.config.moe.topK,
      rowBytes: loaded.rowBytes,
      combineMode: config.combine,
      policy: this.#policy,
      calls: this.#calls,
      fallback: this.#fallbackOf(),
      expertWaitMs: config.expertWaitMs,
    });
  }

  #fallbackOf(): Fallback | null {
    const peer = this.#fallback;
    const views = this.#fallbackViews;
    if (peer === null || views === null) return null;
    return { peer, afterMs: this.#o.config.expertFallbackAfterMs, fromMs: () => views.fromMs() };
  }
}

function replyLimits({ replyLimitMs }: RouterConfig): Record<'decode' | 'prefill', number> {
  return { decode: replyLimitMs, prefill: replyLimitMs * PREFILL_REPLY_FACTOR };
}

/** What the hello says. Errors: `config_invalid` when one token's rows do not fit in a message. */
function identityOf({ config, loaded, identity }: RemoteHomeOptions): RouterIdentity {
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
