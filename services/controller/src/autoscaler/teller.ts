import type { Logger, Metrics } from '@guildhall/common';
import type { Emit } from '../events.ts';
import type { Workloads, WriteOutcome } from '../k8s/types.ts';
import type { Alarm, Plan, Step } from './plan.ts';
import type { View } from './view.ts';

export interface TellerDeps {
  logger: Logger;
  metrics: Metrics;
  emit: Emit;
  workloads: Pick<Workloads, 'event'>;
}

/** Tells of decisions and alarms: in the cluster's event log, as Kubernetes Events, in the log and in metrics. */
export class Teller {
  readonly #deps: TellerDeps;
  readonly #alarms = new Map<string, Alarm & { deployment: string }>();
  /** Steps that were recommended last, by workload: each is told once. */
  readonly #recommended = new Map<string, string>();
  readonly #gauged = new Set<string>();

  constructor(deps: TellerDeps) {
    this.#deps = deps;
  }

  /** A step was carried out, or could not be. */
  step(step: Step, outcome: WriteOutcome): void {
    const { logger, metrics, emit, workloads } = this.#deps;
    const { workload, reason, message } = step;
    const what = describe(step);
    metrics.count('guildhall_autoscaler_writes_total', { step: step.kind, outcome });
    if (outcome !== 'done') {
      logger.warn({ event: 'autoscaler_write', workload, reason, outcome }, `${what} was not carried out`);
      workloads.event(step.deployment, 'Warning', 'AutoscalerWriteFailed', `${what}: ${outcome}`);
      return;
    }
    metrics.count('guildhall_autoscaler_decisions_total', { group: workload, reason });
    logger.info({ event: 'autoscaler', workload, reason, step: step.kind }, `${what}: ${message}`);
    emit('autoscaler', `${what}: ${message}`, { workload, reason, ...plain(step) });
    workloads.event(step.deployment, 'Normal', 'Autoscaled', `${what}: ${message}`);
  }

  /** What is only recommended is told when it changes. */
  recommend(steps: readonly Step[]): void {
    const { logger, metrics, emit } = this.#deps;
    const now = new Map(steps.map((step) => [step.workload, describe(step)]));
    for (const workload of this.#recommended.keys()) if (!now.has(workload)) this.#recommended.delete(workload);
    for (const step of steps) {
      const { workload, reason, message } = step;
      const what = describe(step);
      if (this.#recommended.get(workload) === what) continue;
      this.#recommended.set(workload, what);
      metrics.count('guildhall_autoscaler_decisions_total', { group: workload, reason });
      logger.info({ event: 'autoscaler', workload, reason, recommended: true }, `recommended: ${what}: ${message}`);
      emit('autoscaler', `recommended: ${what}: ${message}`, { workload, reason, recommended: true, ...plain(step) });
    }
  }

  /** Alarms are told when they begin and when they end. */
  alarms(plan: Plan): void {
    const { logger, metrics, emit, workloads } = this.#deps;
    const deployments = new Map(plan.decisions.map(({ workload, deployment }) => [workload, deployment]));
    const now = new Map(plan.alarms.map((alarm) => [`${alarm.workload}/${alarm.reason}`, alarm]));
    for (const [key, { workload, reason, message }] of now) {
      if (this.#alarms.has(key)) continue;
      const deployment = deployments.get(workload) ?? workload;
      this.#alarms.set(key, { workload, reason, message, deployment });
      logger.warn({ event: 'autoscaler_alarm', workload, reason }, message);
      emit('autoscaler_alarm', `${workload}: ${message}`, { workload, reason });
      workloads.event(deployment, 'Warning', 'AutoscalerBlocked', message);
      metrics.gauge('guildhall_autoscaler_alarms', 1, { group: workload, reason });
    }
    for (const [key, { workload, reason }] of this.#alarms) {
      if (now.has(key)) continue;
      this.#alarms.delete(key);
      logger.info({ event: 'autoscaler_alarm_over', workload, reason }, 'an alarm of the autoscaler is over');
      metrics.remove('guildhall_autoscaler_alarms', { group: workload, reason });
    }
  }

  gauges(view: View, plan: Plan): void {
    const { metrics } = this.#deps;
    const ready = new Map(view.workloads.map(({ name, pods }) => [name, pods.ready]));
    for (const { workload: group, desired, actual, utilisation } of plan.decisions) {
      this.#gauged.add(group);
      metrics.gauge('guildhall_autoscaler_desired_replicas', desired, { group });
      metrics.gauge('guildhall_autoscaler_actual_replicas', actual, { group });
      metrics.gauge('guildhall_autoscaler_ready_replicas', ready.get(group) ?? 0, { group });
      if (utilisation === null) metrics.remove('guildhall_autoscaler_utilisation', { group });
      else metrics.gauge('guildhall_autoscaler_utilisation', utilisation, { group });
    }
    metrics.gauge('guildhall_autoscaler_asleep', plan.state === 'asleep' ? 1 : 0);
  }

  /** Forgets what was told: another process tells now, and its metrics must not stand beside those of this one. */
  silence(): void {
    const { metrics } = this.#deps;
    for (const { workload, reason } of this.#alarms.values())
      metrics.remove('guildhall_autoscaler_alarms', { group: workload, reason });
    for (const group of this.#gauged) {
      metrics.remove('guildhall_autoscaler_desired_replicas', { group });
      metrics.remove('guildhall_autoscaler_actual_replicas', { group });
      metrics.remove('guildhall_autoscaler_ready_replicas', { group });
      metrics.remove('guildhall_autoscaler_utilisation', { group });
    }
    this.#gauged.clear();
    this.#alarms.clear();
    this.#recommended.clear();
  }
}

function describe(step: Step): string {
  if (step.kind === 'scale') return `${step.workload} from ${step.from} to ${step.to} replicas`;
  if (step.kind === 'shrink') return `${step.workload} gives ${step.pods.join(', ')} up`;
  return `${step.workload} keeps what was to go`;
}

function plain(step: Step): Record<string, unknown> {
  if (step.kind === 'scale') return { from: step.from, to: step.to };
  return step.kind === 'shrink' ? { pods: step.pods } : {};
}
