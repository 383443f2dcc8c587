import {
  bindGrpcServer,
  createGrpcServer,
  createMetrics,
  fail,
  type Metrics,
  parseHostPort,
  shutDownGrpcServer,
  systemClock,
  NO_TRACING,
} from '@guildhall/common';
import { eventually, silentLogger } from '@guildhall/common/testing';
import { pages } from '@guildhall/proto';
import { TcpFront } from '../../../../test/fakes/tcp-front.ts';
import { Drain } from '../drain.ts';
import { PeerExchange } from '../kv/peer/exchange.ts';
import type { SequenceSpec } from '../sequence.ts';
import { MemoryStore } from './memory-store.ts';
import { crc32cOf, NO_TOKEN } from './peer-rig.ts';
import { pseudoEngine, type PseudoEngineOptions } from './pseudo-engine.ts';
import { PSEUDO_PAGE_BYTES, PSEUDO_STATE_BYTES } from './pseudo-runner.ts';
import { RecordingSink } from './sequences.ts';

export interface MovingRouterOptions extends PseudoEngineOptions {
  parkMs?: number;
  maxPulls?: number;
  maxFetches?: number;
  alter?: (chunk: Buffer) => Buffer;
}

/** A router over the model of hashes whose pages others can fetch over real gRPC. */
export class MovingRouter {
  readonly id: string;
  readonly store = new MemoryStore();
  readonly metrics: Metrics = createMetrics('router');
  readonly pseudo: ReturnType<typeof pseudoEngine>;
  readonly exchange: PeerExchange;
  readonly drain: Drain;
  draining = false;
  readonly #server = createGrpcServer(NO_TOKEN, { maxMessageBytes: 16 << 20 });
  #front: TcpFront | null = null;

  private constructor(id: string, options: MovingRouterOptions) {
    this.id = id;
    const { store, metrics } = this;
    this.pseudo = pseudoEngine({
      clock: systemClock,
      ...options,
      kv: { store, ...options.kv },
      swap: store,
      prefetch: (seq) => this.exchange.prefetch(seq),
    });
    this.exchange = new PeerExchange({
      config: {
        ...NO_TOKEN,
        tlsServerName: null,
        maxPulls: options.maxPulls ?? 4,
        maxFetches: options.maxFetches ?? 8,
        pullRate: 1e9,
        pullStallMs: 30_000,
        pullLimitMs: 60_000,
        fetchStallMs: 30_000,
        parkMs: options.parkMs ?? 60_000,
      },
      identity: { fingerprint: 'pseudo', numericsId: 'hashes' },
      kv: this.pseudo.kv,
      lease: null,
      onFetch: () => undefined,
      checksum: crc32cOf,
      clock: systemClock,
      metrics,
      tracing: NO_TRACING,
      logger: silentLogger(),
      pageBytes: PSEUDO_PAGE_BYTES,
      namedPageBytes: PSEUDO_PAGE_BYTES,
      stateBytes: PSEUDO_STATE_BYTES,
      prefillMs: (from, to) => to - from,
    });
    this.drain = new Drain({
      engine: this.pseudo.engine,
      parked: this.exchange.parked,
      park: (record) => this.exchange.park(record),
      onBegin: () => (this.draining = true),
      clock: systemClock,
      metrics,
      logger: silentLogger(),
    });
  }

  static async start(id: string, options: MovingRouterOptions = {}): Promise<MovingRouter> {
    const made = new MovingRouter(id, options);
    made.#server.addService(pages.PagesService, made.exchange.rpc());
    const address = await bindGrpcServer(made.#server, '127.0.0.1:0');
    made.#front = await TcpFront.start(parseHostPort(address).port, options.alter);
    made.pseudo.engine.start();
    return made;
  }

  get address(): string {
    return this.#front?.address ?? '';
  }

  submit(spec: SequenceSpec): RecordingSink {
    const sink = new RecordingSink();
    this.pseudo.engine.submit(spec, sink);
    return sink;
  }

  /** What was moved away of `spec`, as its gateway submits it again. */
  moved(spec: SequenceSpec, sink: RecordingSink): SequenceSpec {
    const { movedTo, ids } = sink;
    if (movedTo === null) throw fail('internal', 'the sequence was not moved');
    return {
      ...spec,
      generatedIds: Int32Array.from([...spec.generatedIds, ...ids]),
      moved: { routerId: this.id, address: this.address, ...movedTo },
    };
  }

  /** Its connections break, and nobody reaches it any more. */
  kill(): void {
    this.#front?.kill();
  }

  /** Nothing runs, nothing is parked, and the accounts add up. */
  async settled(): Promise<void> {
    const { engine, kv } = this.pseudo;
    await eventually(
      () => engine.scheduler.sequences().length === 0 && this.exchange.parked.size === 0,
      'an idle router',
    );
    await kv.settle();
    engine.scheduler.checkIntegrity();
    if (this.store.heldBytes.size > 0) throw fail('integrity', `${this.store.heldBytes.size} blobs are still held`);
    if (this.pseudo.counts.fatal.length > 0) throw this.pseudo.counts.fatal[0];
  }

  async stop(): Promise<void> {
    this.exchange.close();
    await this.pseudo.engine.stop(fail('not_ready', 'the test is over'));
    this.kill();
    await shutDownGrpcServer(this.#server, 0);
    await this.pseudo.kv.close();
  }
}
