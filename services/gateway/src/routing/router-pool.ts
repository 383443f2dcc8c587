import type { Metadata } from '@grpc/grpc-js';
import { type Clock, errorMessage, type Logger } from '@guildhall/common';
import { control, type router } from '@guildhall/proto';
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

interface Report {
  member: control.Member;
  bytes: Buffer;
}

/** The routers that this gateway may use, with a channel to each. Nothing here awaits Redis. */
export class RouterPool {
  readonly #options: RouterPoolOptions;
  readonly #unsubscribe: () => void;
  readonly #waiters = new Set<() => void>();
  #handles: RouterHandle[] = [];
  /** Survives the routers, so that a model whose routers are all away is unavailable rather than unknown. */
  #servedModels: readonly string[] = [];

  constructor(options: RouterPoolOptions) {
    this.#options = options;
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

  /** Every live router, whether or not it takes new requests. */
  get all(): readonly RouterHandle[] {
    return this.#handles;
  }

  /** Routers that may take a request, in the order of their ids. */
  candidates(query: RouterQuery): RouterHandle[] {
    return this.usable.filter(
      (handle) =>
        !query.avoid.has(handle) &&
        (query.model === null || handle.member.servedModels.includes(query.model)) &&
        (query.numericsId === '' || handle.member.numericsId === query.numericsId),
    );
  }

  /** Has everybody who waits for a change look again. */
  nudge(): void {
    for (const wake of this.#waiters) wake();
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
    const reports = this.#options.members.members().flatMap((member) => this.#decode(member));
    const kept: RouterHandle[] = [];
    for (const { member, bytes } of reports) {
      const known = this.#handles.find((handle) => handle.isSameAs(member));
      known?.update(member, bytes);
      kept.push(known ?? this.#add(member, bytes));
    }
    for (const handle of this.#handles) if (!kept.includes(handle)) handle.retire();
    this.#handles = kept;
    const models = [...new Set(kept.flatMap((handle) => handle.member.servedModels))].toSorted();
    if (models.length > 0) this.#servedModels = models;
    this.nudge();
  }

  #decode(entry: { kind: string; id: string; value: Buffer }): Report[] {
    if (entry.kind !== 'router') return [];
    try {
      return [{ member: control.Member.decode(entry.value), bytes: entry.value }];
    } catch (err) {
      this.#options.logger.warn({ member: entry.id, reason: errorMessage(err) }, 'a member could not be read');
      return [];
    }
  }

  #add(member: control.Member, bytes: Buffer): RouterHandle {
    const handle = new RouterHandle(member, bytes, this.#options.connect(member.address), this.#options.clock);
    this.#options.logger.info({ router: member.id, address: member.address }, 'router found');
    void handle.learnInfo();
    return handle;
  }
}
