import type { V1Probe } from '@kubernetes/client-node';

/** Defaults of the API, for objects that did not pass through it. */
export interface ProbeTimes {
  initialDelayMs: number;
  periodMs: number;
  timeoutMs: number;
  successThreshold: number;
  failureThreshold: number;
}

/** Times of a probe in milliseconds. */
export function probeTimes(probe: V1Probe): ProbeTimes {
  return {
    initialDelayMs: (probe.initialDelaySeconds ?? 0) * 1000,
    periodMs: (probe.periodSeconds ?? 10) * 1000,
    timeoutMs: (probe.timeoutSeconds ?? 1) * 1000,
    successThreshold: probe.successThreshold ?? 1,
    failureThreshold: probe.failureThreshold ?? 3,
  };
}

/**
 * Counts the answers of one probe as a kubelet does (pkg/kubelet/prober/worker.go): the state changes when as many equal
 * answers came in a row as the threshold says, and stays as it is before.
 */
export class ProbeState {
  readonly #thresholds: Pick<ProbeTimes, 'successThreshold' | 'failureThreshold'>;
  #ok: boolean;
  #last: boolean | null = null;
  #run = 0;

  /** @param initial what holds before the first answer: true for liveness, false for readiness and startup. */
  constructor(thresholds: Pick<ProbeTimes, 'successThreshold' | 'failureThreshold'>, initial: boolean) {
    this.#thresholds = thresholds;
    this.#ok = initial;
  }

  get ok(): boolean {
    return this.#ok;
  }

  /**
   * Takes an answer. @returns what a threshold was reached for with it; null while one is not.
   * Every further answer of the same kind reaches it again.
   */
  observe(success: boolean): 'success' | 'failure' | null {
    this.#run = this.#last === success ? this.#run + 1 : 1;
    this.#last = success;
    const { successThreshold, failureThreshold } = this.#thresholds;
    if (this.#run < (success ? successThreshold : failureThreshold)) return null;
    this.#ok = success;
    return success ? 'success' : 'failure';
  }
}
