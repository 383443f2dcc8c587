import type { EventKind } from '@guildhall/common';
import type { DispatchObserver } from './dispatch.ts';

/** What a router tells of its experts, for metrics. */
export interface ExpertObserver extends DispatchObserver {
  /** A worker is no longer sent what another can answer, or it is again. */
  breaker(worker: string, open: boolean): void;
  /** A worker is gone. */
  gone(worker: string): void;
  /** (layer, expert) pairs lost their last live worker, or have one again. */
  experts(change: 'lost' | 'recovered', count: number): void;
  /** Experts that this process holds now, those it has just loaded, and rows that it has just computed. */
  fallback(held: number, loaded: number, rows: number): void;
}

/** Notes an event of the cluster: a sentence for people, facts for programs. */
export type Note = (kind: EventKind, message: string, details: Record<string, unknown>) => void;
