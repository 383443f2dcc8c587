import { authMetadata, channelCredentials, type Clock, type Cluster, fail, type Logger } from '@guildhall/common';
import { experts as wire } from '@guildhall/proto';
import type { RouterConfig } from '../config.ts';
import type { LoadedModel } from '../load-model.ts';
import { type DispatchObserver, RemoteExperts } from './dispatch.ts';
import { ExpertLoads, LoadReporter } from './expert-loads.ts';
import type { RouterIdentity } from './lane-stream.ts';
import { replyBytes, requestBytes } from './plan.ts';
import type { EngineViews, ExpertHome, ExpertSource } from './source.ts';
import { ExpertTopology } from './topology.ts';

export interface RemoteHomeOptions {
  config: RouterConfig;
  loaded: LoadedModel;
  identity: { id: string; incarnation: bigint };
  clock: Clock;
  logger: Logger;
  observer: DispatchObserver;
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
  #reporter: LoadReporter | null = null;

  /** Errors: `config_invalid` when one token's rows do not fit in a message. */
  constructor(options: RemoteHomeOptions) {
    const { config, loaded, clock, logger, observer } = options;
    this.#o = options;
    this.#topology = new ExpertTopology({
      identity: identityOf(options),
      credentials: channelCredentials(config),
      metadata: authMetadata(config),
      clock,
      logger,
      parseReplyHeader: (frame) => loaded.native.parseReplyHeader(frame),
      onStray: (worker) => observer.message(worker, 'stray'),
    });
    const { numLayers, moe } = loaded.config;
    const seed = Number(BigInt.asUintN(32, options.identity.incarnation));
    this.#loads = new ExpertLoads({ numLayers, numExperts: moe.numExperts, topK: moe.topK }, seed);
    this.views = this.#topology.views;
    this.source = this.#makeSource();
  }

  follow(cluster: Cluster): void {
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
    return this.#topology.notCovered();
  }

  openStreams(lane: 'decode' | 'prefill'): number {
    return this.#topology.links.all().filter((link) => link.up(lane)).length;
  }

  stop(): void {
    this.#reporter?.stop();
  }

  close(): void {
    this.#topology.close();
  }

  #makeSource(): RemoteExperts {
    const { config, loaded, identity, clock, logger, observer } = this.#o;
    const { replyLimitMs } = config;
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
      replyLimitMs: { decode: replyLimitMs, prefill: replyLimitMs * PREFILL_REPLY_FACTOR },
      expertWaitMs: config.expertWaitMs,
    });
  }
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
