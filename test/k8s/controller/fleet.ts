import { type MemberLease, newIncarnation, type Timer, systemClock } from '@guildhall/common';
import { control } from '@guildhall/proto';
import { EXPERTS, holdingsOf, LAYERS, type Release } from './rig.ts';

const EXPERT_BYTES = 10n;
const LOOK_MS = 300;

interface Played {
  lease: MemberLease;
  /** What it holds, by the newest placement that it has taken up. */
  take: (placement: { epoch: number; bytes: Buffer } | null) => void;
}

/** Plays the processes in a release's pods: each pod has a member from when it is ready, which tells of a load that the test sets. */
export class Fleet {
  readonly #release: Release;
  readonly #played = new Map<string, Played>();
  readonly #off: () => void;
  #timer: Timer | null = null;
  #looking = Promise.resolve();
  /** Work of the experts, in workers that compute all the time. */
  work = 0;
  /** Whether workers tell of their load. */
  tells = true;
  /** Requests in the gateway, and those that it holds. */
  requests = 0;
  held = 0;
  /** What was there each time that somebody looked and found an expert that no member held, after all had been held. */
  readonly gaps: string[] = [];
  #covered = false;
  #gateway: MemberLease | null = null;
  readonly #holdings = new Map<string, control.LayerHoldings[]>();

  constructor(release: Release) {
    this.#release = release;
    this.#off = release.cluster.placements.onChange((placement) => {
      for (const { take } of this.#played.values()) take(placement);
    });
  }

  async start(): Promise<void> {
    this.#gateway = await this.#join('gateway', 'gateway-1', () => ({
      kind: control.MemberKind.MEMBER_KIND_GATEWAY,
      ready: true,
      running: this.requests,
      heldRequests: this.held,
    }));
    await this.#look();
    this.#timer = systemClock.setInterval(LOOK_MS, () => void (this.#looking = this.#looking.then(() => this.#look())));
  }

  /** Requests come or go: the gateway says so at once. */
  ask(requests: number, held = 0): void {
    this.requests = requests;
    this.held = held;
    this.#gateway?.touch();
  }

  async stop(): Promise<void> {
    this.#timer?.cancel();
    this.#off();
    await this.#looking;
    for (const { lease } of this.#played.values()) await lease.leave();
    await this.#gateway?.leave();
  }

  get workers(): number {
    return this.#holdings.size;
  }

  async #look(): Promise<void> {
    const experts = await this.#release.living('expert');
    const routers = await this.#release.living('router');
    // A process lives on while its pod is not ready for a moment, as when a node is late with its heartbeat.
    const live = new Set([...experts, ...routers].map(({ name }) => name));
    const fresh = ({ name, ready }: { name: string; ready: boolean }): boolean => ready && !this.#played.has(name);
    for (const [id, { lease }] of this.#played) {
      if (live.has(id)) continue;
      this.#played.delete(id);
      this.#holdings.delete(id);
      await lease.leave();
    }
    for (const { name } of experts.filter(fresh)) this.#played.set(name, await this.#worker(name));
    for (const { name } of routers.filter(fresh)) this.#played.set(name, await this.#router(name));
    this.#checkCoverage(experts.length > 0);
  }

  #checkCoverage(awake: boolean): void {
    const held = new Set<string>();
    for (const layers of this.#holdings.values())
      for (const { layer, experts } of layers) for (const expert of experts) held.add(`${layer}/${expert}`);
    if (!awake) this.#covered = false;
    else if (held.size === LAYERS * EXPERTS) this.#covered = true;
    else if (this.#covered) this.gaps.push(this.#describe(held.size));
  }

  #describe(held: number): string {
    const members = [...this.#holdings].map(([id, layers]) => {
      const count = layers.reduce((sum, { experts }) => sum + experts.length, 0);
      return `${id} holds ${count}`;
    });
    const epoch = this.#release.cluster.placements.current()?.epoch ?? 0;
    return `${held} of ${LAYERS * EXPERTS} at epoch ${epoch}: ${members.join(', ')}`;
  }

  async #worker(id: string): Promise<Played> {
    let acked = 0;
    const share = (): number => Math.min(1, this.work / Math.max(1, this.#holdings.size));
    this.#holdings.set(id, []);
    const lease = await this.#join('expert', id, () => ({
      kind: control.MemberKind.MEMBER_KIND_EXPERT,
      ready: acked > 0,
      group: 'all',
      modelFingerprint: 'model',
      numericsId: 'class',
      weightCapacityBytes: BigInt(LAYERS * EXPERTS) * EXPERT_BYTES,
      expertBytes: EXPERT_BYTES,
      ackedEpoch: BigInt(acked),
      numLayers: LAYERS,
      numExperts: EXPERTS,
      holdings: this.#holdings.get(id) ?? [],
      ...(this.tells ? { busy: share(), rowsPerSecond: share() * 1000 } : {}),
    }));
    const take: Played['take'] = (placement) => {
      if (placement === null || !this.#holdings.has(id)) return;
      acked = placement.epoch;
      this.#holdings.set(id, holdingsOf(control.Placement.decode(placement.bytes), id));
      lease.touch();
    };
    take(this.#release.cluster.placements.current());
    return { lease, take };
  }

  async #router(id: string): Promise<Played> {
    const lease = await this.#join('router', id, () => ({
      kind: control.MemberKind.MEMBER_KIND_ROUTER,
      ready: true,
      modelFingerprint: 'model',
      numericsId: 'class',
      ackedEpoch: BigInt(this.#release.cluster.placements.current()?.epoch ?? 0),
      running: this.requests,
      busy: this.requests > 0 ? 1 : 0,
      kvUsage: 0.2,
    }));
    return { lease, take: () => lease.touch() };
  }

  async #join(kind: string, id: string, fields: () => Partial<control.Member>): Promise<MemberLease> {
    const incarnation = newIncarnation();
    const lease = this.#release.cluster.lease({
      kind,
      id,
      incarnation,
      value: () =>
        control.Member.encode(
          control.Member.fromPartial({ id, incarnation, address: '127.0.0.1:1', ...fields() }),
        ).finish(),
      onLost: () => undefined,
      renewMs: 500,
    });
    await lease.join();
    return lease;
  }
}
