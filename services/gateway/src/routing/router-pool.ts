import type { Metadata } from '@grpc/grpc-js';
import { type Clock, errorMessage, type Logger } from '@guildhall/common';
import { control, type router } from '@guildhall/proto';
import { chooseRouter } from './choose-router.ts';
import { RouterHandle } from './router-handle.ts';

/** Members of the cluster as Redis last told; keeps the last known list while Redis is away. */
export interface MemberSource {
  members(): readonly { kind: string; id: string; value: Buffer }[];
  /** Calls back on each change until the returned function is called. */
  onChange(listener: () => void): () => void;
  /** True while Redis is away. */
  readonly stale: boolean;
}

export interface RouterPoolOptions {
  members: MemberSource;
  /** Makes a client; its channel connects when it is first used. */
  connect: (address: string) => { client: router.RouterClient; metadata: Metadata };
  clock: Clock;
  logger: Logger;
  /** In [0, 1). */
  random?: () => number;
}

/** What a request asks of a router. */
export interface RouterQuery {
  /** Served model name; null takes any. */
  model: string | null;
  /** Numerics class that the router must have; '' takes any. */
  numericsId: string;
  /** Routers to pass over. */
  avoid: ReadonlySet<RouterHandle>;
}

/** The routers that this gateway may use, with a channel to each. Nothing here awaits Redis. */
export class RouterPool {
  readonly #options: RouterPoolOptions;
  readonly #random: () => number;
  readonly #unsubscribe: () => void;
  readonly #waiters = new Set<() => void>();
  #handles: RouterHandle[] = [];
  /** Survives the routers, so that a model whose routers are all away is unavailable rather than unknown. */
  #servedModels: readonly string[] = [];

  constructor(options: RouterPoolOptions) {
    this.#options = options;
    this.#random = options.random ?? Math.random;
    this.#unsubscribe = options.members.onChange(() => this.#refresh());
    this.#refresh();
  }

  /** Routers that take new requests. */
  get usable(): RouterHandle[] {
    return this.#handles.filter((handle) => handle.usable);
  }

  /** True while the list may be old because Redis is away. */
  get stale(): boolean {
    return this.#options.members.stale;
  }

  /** Names that routers serve, or served when they were last seen. */
  get servedModels(): readonly string[] {
    return this.#servedModels;
  }

  /** The shortest context among the routers, so that any of them can take a stream over; null while none has told. */
  get maxContext(): number | null {
    const known = this.#handles.map((handle) => handle.maxContext).filter((length) => length !== null);
    return known.length === 0 ? null : Math.min(...known);
  }

  /** A router for a request, or null. */
  pick(query: RouterQuery): RouterHandle | null {
    const candidates = this.usable.filter(
      (handle) =>
        !query.avoid.has(handle) &&
        (query.model === null || handle.member.servedModels.includes(query.model)) &&
        (query.numericsId === '' || handle.member.numericsId === query.numericsId),
    );
    return chooseRouter(candidates, this.#random);
  }

  /** Resolves when the members change or after `ms`. Rejects with `cancelled` when the signal aborts. */
  async waitForChange(ms: number, signal: AbortSignal): Promise<void> {
    const wake = new AbortController();
    const waiter = (): void => wake.abort();
    this.#waiters.add(waiter);
    try {
      await this.#options.clock.sleep(ms, AbortSignal.any([signal, wake.signal]));
    } catch (err) {
      if (!wake.signal.aborted) throw err;
    } finally {
      this.#waiters.delete(waiter);
    }
  }

  close(): void {
    this.#unsubscribe();
    for (const handle of this.#handles) handle.retire();
    this.#handles = [];
  }

  #refresh(): void {
    const members = this.#options.members.members().flatMap((member) => this.#decode(member));
    const kept: RouterHandle[] = [];
    for (const member of members) {
      const known = this.#handles.find((handle) => handle.isSameAs(member));
      known?.update(member);
      kept.push(known ?? this.#add(member));
    }
    for (const handle of this.#handles) if (!kept.includes(handle)) handle.retire();
    this.#handles = kept;
    const models = [...new Set(kept.flatMap((handle) => handle.member.servedModels))].toSorted();
    if (models.length > 0) this.#servedModels = models;
    for (const wake of this.#waiters) wake();
  }

  #decode(entry: { kind: string; id: string; value: Buffer }): control.Member[] {
    if (entry.kind !== 'router') return [];
    try {
      return [control.Member.decode(entry.value)];
    } catch (err) {
      this.#options.logger.warn({ member: entry.id, reason: errorMessage(err) }, 'a member could not be read');
      return [];
    }
  }

  #add(member: control.Member): RouterHandle {
    const { client, metadata } = this.#options.connect(member.address);
    const handle = new RouterHandle(member, client, metadata, this.#options.clock);
    this.#options.logger.info({ router: member.id, address: member.address }, 'router found');
    void handle.refreshInfo();
    return handle;
  }
}
