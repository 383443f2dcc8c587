import type { Clock, Timer } from '@guildhall/common';
import type { ExpertView, ExpertViews, PinnedView } from '../placement-view.ts';
import type { EngineViews } from '../source.ts';
import type { WorkerLink } from '../worker-link.ts';

/**
 * The views of a router that computes experts itself when no worker has come to hold them for a while: from then on the
 * engine goes on as if every expert had a worker.
 */
export class FallbackViews implements EngineViews {
  readonly #views: ExpertViews<WorkerLink>;
  readonly #clock: Clock;
  readonly #afterMs: number;
  readonly #listeners = new Set<() => void>();
  readonly #stopWatching: () => void;
  #timer: Timer | null = null;
  #active = false;

  constructor(views: ExpertViews<WorkerLink>, clock: Clock, afterMs: number) {
    this.#views = views;
    this.#clock = clock;
    this.#afterMs = afterMs;
    this.#stopWatching = views.onChange(() => this.#onChange());
    this.#watch();
  }

  /** This process computes what no worker holds. */
  get active(): boolean {
    return this.#active;
  }

  /** Monotonic milliseconds from which it does, or did; Infinity while every expert has a worker. */
  fromMs(): number {
    const since = this.#views.uncoveredSinceMs;
    return since === null ? Infinity : since + this.#afterMs;
  }

  get covered(): boolean {
    return this.#active || this.#views.covered;
  }

  get uncoveredSinceMs(): number | null {
    return this.#active ? null : this.#views.uncoveredSinceMs;
  }

  get latest(): ExpertView<WorkerLink> {
    return this.#views.latest;
  }

  get ackedEpoch(): number {
    return this.#views.ackedEpoch;
  }

  pin(): PinnedView<WorkerLink> {
    return this.#views.pin();
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  stop(): void {
    this.#timer?.cancel();
    this.#stopWatching();
    this.#listeners.clear();
  }

  #onChange(): void {
    if (this.#views.covered) {
      this.#timer?.cancel();
      this.#timer = null;
      this.#active = false;
    } else {
      this.#watch();
    }
    this.#emit();
  }

  #watch(): void {
    const atMs = this.fromMs();
    if (this.#active || this.#timer !== null || atMs === Infinity) return;
    this.#timer = this.#clock.setTimer(Math.max(0, atMs - this.#clock.monotonicMs()), () => {
      this.#timer = null;
      this.#active = !this.#views.covered;
      this.#emit();
    });
  }

  #emit(): void {
    // A listener may take itself off, or put others on.
    const listeners = Array.from(this.#listeners);
    for (const listener of listeners) listener();
  }
}
