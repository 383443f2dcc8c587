import type { Clock } from '@guildhall/common';
import type { BreakerState, CallOutcome, CircuitBreaker } from './types.ts';

export interface BreakerOptions {
  clock: Pick<Clock, 'monotonicMs'>;
  /** Numbers in [0, 1). */
  random: () => number;
  /** Told when a worker is no longer sent to, with what it did last, and when it is again. */
  onChange?: (worker: string, state: 'open' | 'closed', outcome: CallOutcome) => void;
}

/** Bad outcomes in a row, by weight, that open a breaker. */
const THRESHOLD = 5;
const WEIGHT: Readonly<Record<CallOutcome, number>> = { ok: 0, busy: 0, 'not-held': 0, fault: 1, lost: 1, late: 2 };
const FIRST_PROBE_MS = 250;
const PROBE_CAP_MS = 30_000;
/** A lost stream takes every call on it along: that is one loss. */
const SAME_LOSS_MS = 1;

interface Circuit {
  bad: number;
  open: boolean;
  /** Probes without success since it opened. */
  probes: number;
  /** When the next probe is due. */
  probeAtMs: number;
  lostAtMs: number;
}

/** Opens on bad outcomes in a row, is probed ever more rarely, and closes on the first good one. */
export class Breakers implements CircuitBreaker {
  readonly #o: BreakerOptions;
  readonly #circuits = new Map<string, Circuit>();
  #numOpen = 0;

  constructor(options: BreakerOptions) {
    this.#o = options;
  }

  get numOpen(): number {
    return this.#numOpen;
  }

  state(worker: string): BreakerState {
    if (this.#numOpen === 0) return 'closed';
    const circuit = this.#circuits.get(worker);
    if (circuit === undefined || !circuit.open) return 'closed';
    return this.#o.clock.monotonicMs() >= circuit.probeAtMs ? 'probing' : 'open';
  }

  probed(worker: string): void {
    const circuit = this.#circuits.get(worker);
    if (circuit?.open === true) this.#backOff(circuit);
  }

  record(worker: string, outcome: CallOutcome): void {
    if (outcome === 'ok') return this.#close(worker);
    const weight = WEIGHT[outcome];
    if (weight === 0) return;
    const circuit = this.#circuits.get(worker) ?? { bad: 0, open: false, probes: 0, probeAtMs: 0, lostAtMs: -Infinity };
    this.#circuits.set(worker, circuit);
    if (outcome === 'lost' && this.#isSameLoss(circuit)) return;
    circuit.bad += weight;
    if (circuit.open || circuit.bad < THRESHOLD) return;
    circuit.open = true;
    this.#numOpen += 1;
    this.#backOff(circuit);
    this.#o.onChange?.(worker, 'open', outcome);
  }

  forget(worker: string): void {
    this.#remove(worker);
  }

  #close(worker: string): void {
    if (this.#remove(worker)) this.#o.onChange?.(worker, 'closed', 'ok');
  }

  /** True when it was open. */
  #remove(worker: string): boolean {
    const circuit = this.#circuits.get(worker);
    this.#circuits.delete(worker);
    if (circuit?.open !== true) return false;
    this.#numOpen -= 1;
    return true;
  }

  #isSameLoss(circuit: Circuit): boolean {
    const now = this.#o.clock.monotonicMs();
    const same = now - circuit.lostAtMs < SAME_LOSS_MS;
    if (!same) circuit.lostAtMs = now;
    return same;
  }

  /** Between half and all of the time, so that routers do not probe in step. */
  #backOff(circuit: Circuit): void {
    const { clock, random } = this.#o;
    const waitMs = Math.min(PROBE_CAP_MS, FIRST_PROBE_MS * 2 ** circuit.probes);
    circuit.probes += 1;
    circuit.probeAtMs = clock.monotonicMs() + waitMs * (0.5 + random() / 2);
  }
}
