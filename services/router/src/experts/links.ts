import { type LinkContext, type WorkerAddress, WorkerLink } from './worker-link.ts';

/** Links to the workers of the cluster, by worker id. */
export class LinkSet {
  readonly #context: LinkContext;
  readonly #links = new Map<string, WorkerLink>();
  readonly #onState: (link: WorkerLink) => void;
  readonly #onGone: (link: WorkerLink) => void;
  #wanted = new Set<string>();

  /** `onGone` is told of links that are given up, after what was on its way. */
  constructor(context: LinkContext, onGone: (link: WorkerLink) => void = () => undefined) {
    this.#onGone = onGone;
    this.#onState = context.onState;
    this.#context = { ...context, onState: (link) => this.#linkChanged(link) };
  }

  /** Every link, by worker id. */
  all(): WorkerLink[] {
    return [...this.#links.values()].sort((a, b) => (a.id < b.id ? -1 : 1));
  }

  get(id: string): WorkerLink | null {
    return this.#links.get(id) ?? null;
  }

  /**
   * Takes the current list of workers. A new incarnation or address gets a new link. The link of a worker that is
   * not listed any more stays for as long as it is up, since a live stream is better evidence than a lease.
   */
  sync(workers: readonly WorkerAddress[]): void {
    this.#wanted = new Set(workers.map((worker) => worker.id));
    for (const worker of workers) {
      const link = this.#links.get(worker.id);
      if (link !== undefined && link.incarnation === worker.incarnation && link.address === worker.address) continue;
      if (link !== undefined) this.#drop(link);
      const fresh = new WorkerLink(worker, this.#context);
      this.#links.set(worker.id, fresh);
      fresh.open();
    }
    for (const link of this.#links.values()) this.#dropIfGone(link);
  }

  close(): void {
    for (const link of this.#links.values()) this.#drop(link);
  }

  #linkChanged(link: WorkerLink): void {
    this.#onState(link);
    this.#dropIfGone(link);
  }

  #dropIfGone(link: WorkerLink): void {
    if (!this.#wanted.has(link.id) && !link.connected) this.#drop(link);
  }

  #drop(link: WorkerLink): void {
    if (this.#links.get(link.id) !== link) return;
    this.#links.delete(link.id);
    link.close();
    this.#onGone(link);
  }
}
