import type { V1Probe } from '@kubernetes/client-node';
import type { Clock } from '@guildhall/common';
import { type ActionTarget, probeAction } from './actions.ts';
import { isCancelled } from './cancelled.ts';
import { ProbeState, type ProbeTimes, probeTimes } from './probe-state.ts';

/** What the probes of a container find out. */
export interface ProbeListener {
  started(): void;
  ready(ready: boolean): void;
  /** A probe whose failure ends the container. `graceSeconds`: its own grace period, if it has one. */
  unhealthy(kind: 'Startup' | 'Liveness', message: string, graceSeconds: number | undefined): void;
  /** Any answer that was a failure, for events. */
  failed(kind: 'Startup' | 'Liveness' | 'Readiness', message: string): void;
}

type Kind = 'Startup' | 'Liveness' | 'Readiness';

/** The probes of one container from its start to its end. Liveness and readiness wait until startup has succeeded. */
export class ContainerProbes {
  readonly #target: ActionTarget;
  readonly #clock: Clock;
  readonly #listener: ProbeListener;
  readonly #all = new AbortController();
  readonly #killing = new AbortController();

  constructor(target: ActionTarget, clock: Clock, listener: ProbeListener) {
    this.#target = target;
    this.#clock = clock;
    this.#listener = listener;
  }

  start(): void {
    const { startupProbe } = this.#target.container;
    if (startupProbe === undefined) this.#afterStartup();
    else this.#run('Startup', startupProbe);
  }

  /** Ends what could kill the container; readiness is still asked, as long as it ends. */
  stopKilling(): void {
    this.#killing.abort();
  }

  stop(): void {
    this.#killing.abort();
    this.#all.abort();
  }

  #afterStartup(): void {
    const { livenessProbe, readinessProbe } = this.#target.container;
    this.#listener.started();
    if (readinessProbe === undefined) this.#listener.ready(true);
    else this.#run('Readiness', readinessProbe);
    if (livenessProbe !== undefined) this.#run('Liveness', livenessProbe);
  }

  #run(kind: Kind, probe: V1Probe): void {
    const signal = kind === 'Readiness' ? this.#all.signal : AbortSignal.any([this.#all.signal, this.#killing.signal]);
    if (signal.aborted) return;
    this.#loop(kind, probe, probeTimes(probe), signal).catch((error: unknown) => {
      if (!isCancelled(error)) throw error;
    });
  }

  async #loop(kind: Kind, probe: V1Probe, times: ProbeTimes, signal: AbortSignal): Promise<void> {
    const state = new ProbeState(times, kind === 'Liveness');
    await this.#clock.sleep(times.initialDelayMs, signal);
    for (;;) {
      const askedMs = this.#clock.monotonicMs();
      const { ok, message } = await probeAction(this.#target, probe, times.timeoutMs);
      if (signal.aborted) return;
      if (!ok) this.#listener.failed(kind, message);
      if (this.#reached(kind, probe, state.observe(ok), message)) return;
      await this.#clock.sleep(Math.max(0, times.periodMs - (this.#clock.monotonicMs() - askedMs)), signal);
    }
  }

  /** @returns whether the probe has done its work. */
  #reached(kind: Kind, probe: V1Probe, result: 'success' | 'failure' | null, message: string): boolean {
    if (result === null) return false;
    if (kind === 'Readiness') {
      this.#listener.ready(result === 'success');
      return false;
    }
    if (result === 'failure') {
      this.#listener.unhealthy(kind, message, probe.terminationGracePeriodSeconds);
      return true;
    }
    if (kind === 'Startup') this.#afterStartup();
    return kind === 'Startup';
  }
}
