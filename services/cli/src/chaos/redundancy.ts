import { type Clock, Cluster, createLogger, errorMessage } from '@guildhall/common';
import { control } from '@guildhall/proto';

export interface ProbeOptions {
  redisUrl: string;
  cluster: string;
  clusterToken: string;
  /** Copies that each expert should have. */
  replicas: number;
  clock: Clock;
}

/** What a look at the cluster found. */
export interface Redundancy {
  /** What is missing for full redundancy; null when nothing is. */
  missing: string | null;
  /** Workers that hold experts and count. */
  workers: number;
}

/** Whom a look asks. */
export interface Look {
  /** Workers that do not count, whatever they say of themselves. */
  lost: readonly string[];
  routers: { name: string; admin: string }[];
}

const ASK_LIMIT_MS = 1000;

/** Judges redundancy by what workers hold, and by what every router and the controller see. */
export class RedundancyProbe {
  readonly #cluster: Cluster;
  readonly #replicas: number;

  constructor(options: ProbeOptions) {
    const { redisUrl, cluster, replicas, clock } = options;
    const logger = createLogger({ service: 'cli', id: 'chaos', level: 'silent' });
    this.#cluster = new Cluster({ redis: redisUrl, cluster, clock, logger });
    this.#replicas = replicas;
  }

  async start(): Promise<void> {
    await this.#cluster.start();
  }

  async stop(): Promise<void> {
    await this.#cluster.close();
  }

  /** Looks once; anything that does not answer is missing. */
  async look({ lost, routers }: Look): Promise<Redundancy> {
    const workers = this.#workers(lost);
    const missing =
      this.#missingHere(workers) ??
      (await this.#missingAtController(workers)) ??
      (await missingAtRouters(routers, workers));
    return { missing, workers: workers.filter((worker) => worker.holdings.length > 0).length };
  }

  /** Id of the controller that leads by its own word, or null. */
  leader(): string | null {
    return this.#members(control.MemberKind.MEMBER_KIND_CONTROLLER).find((member) => member.ready)?.id ?? null;
  }

  /** Size of the placement in force, bytes; 0 without one. */
  get placementBytes(): number {
    return this.#cluster.placements.current()?.bytes.length ?? 0;
  }

  /** Takes everything out of Redis. */
  async wipe(): Promise<void> {
    await this.#cluster.redis.flushall();
  }

  /** Ends everything in Redis that has an end. */
  async endLeases(): Promise<void> {
    const { redis } = this.#cluster;
    for (const key of await redis.keys('*')) {
      if ((await redis.pttl(key)) >= 0) await redis.pexpire(key, 1);
    }
  }

  #members(kind: control.MemberKind): control.Member[] {
    return this.#cluster.members
      .members()
      .map((member) => control.Member.decode(member.value))
      .filter((member) => member.kind === kind);
  }

  #workers(lost: readonly string[]): control.Member[] {
    return this.#members(control.MemberKind.MEMBER_KIND_EXPERT).filter((member) => !lost.includes(member.id));
  }

  #missingHere(workers: readonly control.Member[]): string | null {
    if (this.#cluster.members.stale) return 'Redis does not answer';
    const first = workers[0];
    if (first === undefined) return 'there are no workers';
    const copies = new Map<string, number>();
    for (const { holdings } of workers) {
      for (const { layer, experts } of holdings) {
        for (const expert of experts) copies.set(`${layer}/${expert}`, (copies.get(`${layer}/${expert}`) ?? 0) + 1);
      }
    }
    const wanted = first.numLayers * first.numExperts;
    const enough = [...copies.values()].filter((count) => count >= this.#replicas).length;
    return enough === wanted
      ? null
      : `${wanted - enough} of ${wanted} experts have fewer than ${this.#replicas} holders`;
  }

  async #missingAtController(workers: readonly control.Member[]): Promise<string | null> {
    const current = this.#cluster.placements.current();
    if (current === null) return 'there is no placement';
    const placement = control.Placement.decode(current.bytes);
    const live = new Set(workers.map((worker) => worker.id));
    const gone = placement.workers.find((worker) => !live.has(worker));
    if (gone !== undefined) return `the placement still names ${gone}`;
    try {
      const { redis, keys } = this.#cluster;
      // The list of members outlives Redis's data for a while; here they must have registered again.
      const registered = await redis.exists(...workers.map((worker) => keys.member('expert', worker.id)));
      if (registered < workers.length) return `${registered} of ${workers.length} workers are registered`;
      const text = await redis.get(keys.status('controller'));
      if (text === null) return 'no controller says how it stands';
      const status = JSON.parse(text) as { epoch: number; coverage: number };
      if (status.epoch < current.epoch) return 'the controller does not know the placement yet';
      return status.coverage === 1 ? null : `the controller sees ${status.coverage} of the experts`;
    } catch (error) {
      return `Redis: ${errorMessage(error)}`;
    }
  }
}

async function missingAtRouters(routers: Look['routers'], workers: readonly control.Member[]): Promise<string | null> {
  const holders = workers.filter((worker) => worker.holdings.length > 0).length;
  for (const { name, admin } of routers) {
    try {
      const response = await fetch(`${admin}/metrics`, { signal: AbortSignal.timeout(ASK_LIMIT_MS) });
      const page = await response.text();
      const coverage = gaugeOf(page, 'guildhall_expert_coverage');
      if (coverage !== 1) return `${name} sees ${coverage ?? 'none'} of the experts`;
      for (const lane of ['decode', 'prefill']) {
        const streams = gaugeOf(page, `guildhall_expert_streams{lane="${lane}"}`) ?? 0;
        if (streams < holders) return `${name} has ${streams} ${lane} streams to ${holders} workers`;
      }
    } catch {
      return `${name} does not answer`;
    }
  }
  return routers.length === 0 ? 'there is no router' : null;
}

/** Value of a gauge on a page of metrics, by its name with its labels if it has any; null when it is not there. */
export function gaugeOf(page: string, name: string): number | null {
  const line = page.split('\n').find((text) => text.startsWith(`${name} `));
  return line === undefined ? null : Number(line.slice(line.lastIndexOf(' ') + 1));
}
