import { Cluster, createLogger, type DrainStore, type EventLog, systemClock } from '@guildhall/common';
import type { ControllerStatus } from '@guildhall/controller';
import { AUTOSCALER_STATUS, type AutoscalerStatus, parseAutoscalerStatus } from '@guildhall/controller/autoscaler';
import { control } from '@guildhall/proto';
import type { RunSecrets } from './state-dir.ts';

/** What the members of a cluster say of themselves, and the placement in force. */
export interface ClusterSnapshot {
  members: control.Member[];
  placement: control.Placement | null;
  /** True when Redis is away and this is the last known state. */
  stale: boolean;
}

/** Reads membership and placement from a cluster's Redis. */
export class ClusterView {
  readonly #cluster: Cluster;

  constructor(secrets: RunSecrets) {
    const logger = createLogger({ service: 'cli', id: 'cli', level: 'silent' });
    const { redisUrl: redis, cluster, tls, redisUser } = secrets;
    const { tlsCert = null, tlsKey = null, tlsCa = null } = tls ?? {};
    const access = { ...redisUser, tlsCert, tlsKey, redisCa: redisUser?.redisCa ?? tlsCa };
    this.#cluster = new Cluster({ redis, cluster, access, clock: systemClock, logger });
  }

  /** Resolves after the first attempt to read; a Redis that is away leaves the snapshot stale. */
  async start(): Promise<void> {
    await this.#cluster.start();
  }

  snapshot(): ClusterSnapshot {
    const members = this.#cluster.members.members().map((member) => control.Member.decode(member.value));
    const current = this.#cluster.placements.current();
    const placement = current === null ? null : control.Placement.decode(current.bytes);
    return { members, placement, stale: this.#cluster.members.stale };
  }

  get eventLog(): EventLog {
    return this.#cluster.eventLog;
  }

  get drains(): DrainStore {
    return this.#cluster.drains;
  }

  /** What the leading controller says; null when none has said anything lately, or Redis is away. */
  async controllerStatus(): Promise<ControllerStatus | null> {
    const { redis, keys } = this.#cluster;
    try {
      const text = await redis.get(keys.status('controller'));
      return text === null ? null : (JSON.parse(text) as ControllerStatus);
    } catch {
      return null;
    }
  }

  /** What the autoscaler says of itself; null where none runs. */
  async autoscalerStatus(): Promise<AutoscalerStatus | null> {
    const { redis, keys } = this.#cluster;
    const text = await redis.get(keys.status(AUTOSCALER_STATUS)).catch(() => null);
    return text === null ? null : parseAutoscalerStatus(text);
  }

  /** The routers among the members. */
  routers(): control.Member[] {
    return this.snapshot().members.filter((member) => member.kind === control.MemberKind.MEMBER_KIND_ROUTER);
  }

  async stop(): Promise<void> {
    await this.#cluster.close();
  }
}

/** Share of a placement's (layer, expert, worker) entries that the workers hold, 0..1; 0 without a placement. */
export function loadedShare({ members, placement }: ClusterSnapshot): { held: number; wanted: number } {
  if (placement === null) return { held: 0, wanted: 0 };
  const holdings = new Map(
    members.map((member) => [
      member.id,
      new Set(member.holdings.flatMap((h) => h.experts.map((e) => `${h.layer}/${e}`))),
    ]),
  );
  let held = 0;
  let wanted = 0;
  for (const { layer, counts, workers } of placement.layers) {
    let next = 0;
    for (const [expert, count] of counts.entries()) {
      for (let replica = 0; replica < count; replica++) {
        const worker = placement.workers[workers[next++] ?? -1] ?? '';
        wanted++;
        if (holdings.get(worker)?.has(`${layer}/${expert}`)) held++;
      }
    }
  }
  return { held, wanted };
}
