import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Cluster, LeaderLock, loadConfig, newIncarnation, systemClock } from '@guildhall/common';
import { eventually, RedisServer, silentLogger } from '@guildhall/common/testing';
import { control } from '@guildhall/proto';
import { type ExpertApp, startExpert } from '../app.ts';
import { expertSchema } from '../config.ts';

/** A small random checkpoint of the whole architecture. */
export const MODEL = fileURLToPath(new URL('../../../../test/vectors/checkpoints/q35-base', import.meta.url));

interface TextConfig {
  hidden_size: number;
  num_hidden_layers: number;
  num_experts: number;
  num_experts_per_tok: number;
}

const config = JSON.parse(readFileSync(`${MODEL}/config.json`, 'utf8')) as { text_config: TextConfig };
export const SIZES = {
  hidden: config.text_config.hidden_size,
  layers: config.text_config.num_hidden_layers,
  experts: config.text_config.num_experts,
  topK: config.text_config.num_experts_per_tok,
};

/** Which experts a worker gets in every layer, by worker id. */
export type Layout = Record<string, number[]>;

/** Real Redis, and this test as the controller and the routers of a cluster. */
export class WorkerBench {
  readonly redis: RedisServer;
  readonly cluster: Cluster;
  readonly fatal: unknown[] = [];
  readonly #lock: LeaderLock;
  readonly #apps: ExpertApp[] = [];

  private constructor(redis: RedisServer) {
    this.redis = redis;
    this.cluster = new Cluster({ redis: redis.url, cluster: 'bench', clock: systemClock, logger: silentLogger() });
    const { keys } = this.cluster;
    this.#lock = new LeaderLock({
      redis: this.cluster.redis,
      keys,
      clock: systemClock,
      logger: silentLogger(),
      owner: 'bench',
      renewMs: 300,
    });
  }

  static async start(): Promise<WorkerBench> {
    const bench = new WorkerBench(await RedisServer.start());
    await bench.cluster.start();
    await bench.#lock.start();
    return bench;
  }

  async worker(id: string, ...argv: string[]): Promise<ExpertApp> {
    const base = [
      '--redis',
      this.redis.url,
      '--cluster',
      'bench',
      '--id',
      id,
      '--model',
      MODEL,
      '--weights',
      'f32',
      '--threads',
      '1',
    ];
    const app = await startExpert(loadConfig(expertSchema, { argv: [...base, ...argv], env: {} }), {
      logger: silentLogger(),
      clock: systemClock,
      onFatal: (err) => void this.fatal.push(err),
    });
    this.#apps.push(app);
    return app;
  }

  /** Publishes an epoch; every layer has the same layout. */
  async publish(epoch: number, app: Pick<ExpertApp, 'fingerprint' | 'numericsId'>, layout: Layout): Promise<void> {
    const workers = Object.keys(layout);
    const experts = Array.from({ length: SIZES.experts }, (_, expert) =>
      workers.flatMap((id, index) => (layout[id]?.includes(expert) === true ? [index] : [])),
    );
    const layers = Array.from({ length: SIZES.layers }, (_, layer) => ({
      layer,
      counts: experts.map((holders) => holders.length),
      workers: experts.flat(),
    }));
    const placement = {
      epoch: BigInt(epoch),
      modelFingerprint: app.fingerprint,
      numericsId: app.numericsId,
      workers,
      layers,
      reason: 'test',
      createdMs: 0n,
      predicted: undefined,
    };
    const bytes = control.Placement.encode(placement).finish();
    await eventually(async () => {
      const fence = this.#lock.fence;
      if (fence === null) return false;
      const current = await this.cluster.placementStore.currentEpoch().catch(() => -1);
      if (current < 0) return false;
      return (await this.cluster.placementStore.publish(current, epoch, bytes, fence)) === 'published';
    }, `epoch ${epoch}`);
  }

  /** A live router of the model that acknowledges what the returned function is told. */
  async router(id: string, app: Pick<ExpertApp, 'fingerprint' | 'numericsId'>): Promise<(epoch: number) => void> {
    let acked = 0;
    const lease = this.cluster.lease({
      kind: 'router',
      id,
      incarnation: newIncarnation(),
      value: () =>
        control.Member.encode(
          control.Member.fromPartial({
            id,
            modelFingerprint: app.fingerprint,
            numericsId: app.numericsId,
            ackedEpoch: BigInt(acked),
          }),
        ).finish(),
      onLost: (err) => void this.fatal.push(err),
    });
    await lease.join();
    return (epoch) => {
      acked = epoch;
      lease.touch();
    };
  }

  /** Another worker of the model, e2, and a controller: entries only. */
  async neighbours(app: Pick<ExpertApp, 'fingerprint' | 'numericsId'>): Promise<void> {
    const model = { modelFingerprint: app.fingerprint, numericsId: app.numericsId };
    for (const [kind, id] of [
      ['expert', 'e2'],
      ['controller', 'c1'],
    ] as const) {
      const value = (): Uint8Array => control.Member.encode(control.Member.fromPartial({ id, ...model })).finish();
      const onLost = (err: Error): void => void this.fatal.push(err);
      await this.cluster.lease({ kind, id, incarnation: newIncarnation(), value, onLost }).join();
    }
  }

  /** The entry of a worker in Redis. */
  member(id: string): control.Member | null {
    const entry = this.cluster.members.members().find((member) => member.kind === 'expert' && member.id === id);
    return entry === undefined ? null : control.Member.decode(entry.value);
  }

  /** Waits until a worker has acknowledged an epoch. */
  acked(id: string, epoch: number): Promise<control.Member> {
    return eventually(() => {
      const member = this.member(id);
      return member !== null && Number(member.ackedEpoch) === epoch ? member : null;
    }, `${id} to hold epoch ${epoch}`);
  }

  async stop(): Promise<void> {
    await Promise.all(this.#apps.map((app) => app.stop()));
    await this.#lock.stop();
    await this.cluster.close();
    await this.redis.stop();
  }
}
