import {
  type Clock,
  errorMessage,
  LEASE_MS,
  type LeaderElection,
  type LeaderFence,
  type Logger,
  Poller,
  type RedisKeys,
  RENEW_MS,
  runScript,
} from '@guildhall/common';
import {
  LEASE_DURATION_MS,
  LEASE_RENEW_MS,
  LeaseHolder,
  type LeaseHolderOptions,
  type LeaseTerm,
} from './lease-holder.ts';

export interface LeaseElectionOptions extends Pick<LeaseHolderOptions, 'store' | 'owner' | 'durationMs'> {
  redis: Parameters<typeof runScript>[0];
  keys: Pick<RedisKeys, 'leader' | 'leaderFence'>;
  clock: Clock;
  logger: Logger;
  /** Unique to this process's start. */
  identity: string;
  leaseRenewMs?: number;
  redisLeaseMs?: number;
  redisRenewMs?: number;
}

/**
 * By what this process stands for election: `lease` while it holds the Lease; `lock` while no API server answers, when the lock
 * in Redis decides alone, as outside Kubernetes; `none` while another holds the Lease.
 */
export type ElectionMode = 'lease' | 'lock' | 'none';

/**
 * Election by a Lease of Kubernetes, fenced in Redis. The Lease says who leads; its holder takes the lead in Redis under the
 * Lease's term, which gives it the fence that its writes carry, and fences off whoever led before. While the API server is away, the
 * lock in Redis alone decides, so that lost workers are replaced also then; once it answers, the holder of the Lease takes the lead
 * back. While Redis is away the holder of the Lease keeps the lead that it had. With both away nobody leads for long.
 */
export class LeaseElection implements LeaderElection {
  readonly lease: LeaseHolder;
  readonly #o: LeaseElectionOptions;
  readonly #awayMs: number;
  readonly #redisLeaseMs: number;
  readonly #leasePoller: Poller;
  readonly #redisPoller: Poller;
  readonly #listeners = new Set<(leading: boolean) => void>();
  #mode: ElectionMode = 'none';
  #held: LeaderFence | null = null;
  /** When the lead in Redis ends unless it is renewed, on the monotonic clock. */
  #endsMs = Number.NEGATIVE_INFINITY;
  #led = false;

  constructor(options: LeaseElectionOptions) {
    const { clock } = options;
    this.#o = options;
    this.#awayMs = options.durationMs ?? LEASE_DURATION_MS;
    this.#redisLeaseMs = options.redisLeaseMs ?? LEASE_MS;
    this.lease = new LeaseHolder(options);
    this.#leasePoller = new Poller(clock, options.leaseRenewMs ?? LEASE_RENEW_MS, () => this.#askLease());
    this.#redisPoller = new Poller(clock, options.redisRenewMs ?? RENEW_MS, () => this.#renewInRedis());
  }

  get mode(): ElectionMode {
    return this.#mode;
  }

  /** A process that slept learns here that its time is over, before any timer has fired. */
  get fence(): LeaderFence | null {
    const nowMs = this.#o.clock.monotonicMs();
    if (nowMs < this.#endsMs) return this.#held;
    return this.#mode === 'lease' && this.lease.held ? this.#held : null;
  }

  /** True while this process may write to the API server: it holds the Lease, and its fence. */
  get mayWrite(): boolean {
    return this.lease.held && this.fence !== null;
  }

  async start(): Promise<void> {
    await this.#leasePoller.start();
    await this.#redisPoller.start();
  }

  check(): void {
    this.#leasePoller.poke();
    this.#redisPoller.poke();
  }

  onChange(listener: (leading: boolean) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  async stop(): Promise<void> {
    await Promise.all([this.#leasePoller.stop(), this.#redisPoller.stop()]);
    const led = this.#held !== null;
    this.#held = null;
    this.#endsMs = Number.NEGATIVE_INFINITY;
    // First what others must not overtake: a successor by the Lease takes the lead in Redis from us in any case.
    if (led) await this.#releaseInRedis();
    await this.lease.release();
  }

  async #askLease(): Promise<void> {
    const answer = await this.lease.attempt();
    if (answer === 'held') this.#enter('lease');
    else if (answer === 'other') this.#enter('none');
    else if (!this.lease.held && this.lease.silentMs >= this.#awayMs) this.#enter('lock');
    // Otherwise the API server has been away for a moment only: what was decided holds.
    this.#tell();
  }

  #enter(mode: ElectionMode): void {
    if (mode === this.#mode) return;
    const { logger } = this.#o;
    if (mode === 'lock') logger.warn('the API server is away: the lock in Redis decides who leads');
    this.#mode = mode;
    if (mode === 'none') this.#drop();
    else this.#redisPoller.poke();
  }

  async #renewInRedis(): Promise<void> {
    const mode = this.#mode;
    const { term } = this.lease;
    const askedMs = this.#o.clock.monotonicMs();
    try {
      if (mode === 'lease' && term !== null) this.#took(await this.#take(term), askedMs);
      else if (mode === 'lock') this.#took(await this.#acquire(), askedMs);
    } catch (err) {
      this.#o.logger.debug({ reason: errorMessage(err) }, 'the lead in Redis was not reached');
    }
    this.#tell();
  }

  #took(fence: number, askedMs: number): void {
    // What was answered after the Lease went to another is void.
    if (this.#mode === 'none') return;
    if (fence === 0) return this.#drop();
    this.#held = { owner: this.#o.identity, fence };
    this.#endsMs = askedMs + this.#redisLeaseMs;
  }

  #drop(): void {
    this.#held = null;
    this.#endsMs = Number.NEGATIVE_INFINITY;
  }

  async #take({ bornS, transitions }: LeaseTerm): Promise<number> {
    const { redis, keys, identity } = this.#o;
    const args = [identity, this.#redisLeaseMs, bornS, transitions];
    return Number(await runScript(redis, 'leader-take', [keys.leader, keys.leaderFence], args));
  }

  async #acquire(): Promise<number> {
    const { redis, keys, identity } = this.#o;
    const args = [identity, this.#redisLeaseMs];
    return Number(await runScript(redis, 'leader-acquire', [keys.leader, keys.leaderFence], args));
  }

  async #releaseInRedis(): Promise<void> {
    const { redis, keys, identity, logger } = this.#o;
    try {
      await runScript(redis, 'leader-release', [keys.leader], [identity]);
    } catch (err) {
      logger.warn({ reason: errorMessage(err) }, 'the lead in Redis was not released; it will expire');
    }
  }

  #tell(): void {
    const leading = this.fence !== null;
    if (leading === this.#led) return;
    this.#led = leading;
    this.#o.logger.info(
      { fence: this.#held?.fence ?? null, mode: this.#mode },
      leading ? 'leading' : 'leadership lost',
    );
    for (const listener of this.#listeners) listener(leading);
  }
}
