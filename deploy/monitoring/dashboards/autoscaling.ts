import type { Board } from '../board.ts';
import { curves } from '../panels.ts';
import { of, quantile, rate, sum } from '../queries.ts';

/** What the leading controller says; the others have nothing to say of it. */
function latest(metric: string, by: readonly string[] = ['group']): string {
  return `max by (${by.join(', ')}) (${of(metric)})`;
}

/** What the autoscaler wants, what it gets, and what holds it back. */
export const autoscaling: Board = {
  name: 'autoscaling',
  title: 'Autoscaling',
  description: 'What the autoscaler wants for routers and expert groups, what there is, and what holds it back.',
  rows: [
    {
      title: 'Replicas',
      panels: [
        curves({
          title: 'Wanted',
          description: 'Replicas that the autoscaler wants, also in mode recommend.',
          unit: 'short',
          targets: [{ expr: latest('guildhall_autoscaler_desired_replicas'), legend: '{{group}}' }],
        }),
        curves({
          title: 'Asked for',
          description: 'Replicas that the Deployments ask for. Apart from "wanted" for long: see "What holds it back".',
          unit: 'short',
          targets: [{ expr: latest('guildhall_autoscaler_actual_replicas'), legend: '{{group}}' }],
        }),
        curves({
          title: 'Ready',
          description: 'Replicas that are ready. Fewer than asked for: they load, or find no machine.',
          unit: 'short',
          targets: [{ expr: latest('guildhall_autoscaler_ready_replicas'), legend: '{{group}}' }],
        }),
      ],
    },
    {
      title: 'Why',
      panels: [
        curves({
          title: 'Utilisation',
          description: 'Share of its time that each ready replica computes, or of its limits that a router uses.',
          unit: 'percentunit',
          targets: [{ expr: latest('guildhall_autoscaler_utilisation'), legend: '{{group}}' }],
        }),
        curves({
          title: 'Decisions',
          description: 'Changes decided on, by group and reason.',
          unit: 'ops',
          targets: [
            {
              expr: rate('guildhall_autoscaler_decisions_total', ['group', 'reason']),
              legend: '{{group}}: {{reason}}',
            },
          ],
        }),
        curves({
          title: 'What holds it back',
          description: 'Complaints by group and reason; `guildhall autoscaler` has the sentence for each.',
          unit: 'short',
          targets: [
            {
              expr: `${latest('guildhall_autoscaler_alarms', ['group', 'reason'])} or vector(0)`,
              legend: '{{group}}: {{reason}}',
            },
          ],
        }),
      ],
    },
    {
      title: 'Carrying it out',
      panels: [
        curves({
          title: 'Steps',
          description: 'Steps of plans by outcome. conflict: somebody else wrote first.',
          unit: 'ops',
          targets: [
            { expr: rate('guildhall_autoscaler_writes_total', ['step', 'outcome']), legend: '{{step}}: {{outcome}}' },
          ],
        }),
        curves({
          title: 'Evaluations',
          description: 'blind: the API server, Redis or the policy cannot be read, and nothing is decided.',
          unit: 'ops',
          targets: [{ expr: rate('guildhall_autoscaler_evaluations_total', ['outcome']), legend: '{{outcome}}' }],
        }),
        curves({
          title: 'Age of what is known of Kubernetes',
          description: 'Time since the API server last said something, by kind. Old knowledge decides nothing.',
          unit: 's',
          targets: [{ expr: latest('guildhall_k8s_watch_age_seconds', ['kind']), legend: '{{kind}}' }],
        }),
        curves({
          title: 'Writes to Kubernetes',
          description: 'By what and outcome.',
          unit: 'ops',
          targets: [{ expr: rate('guildhall_k8s_writes_total', ['what', 'outcome']), legend: '{{what}}: {{outcome}}' }],
        }),
        curves({
          title: 'Requests held',
          description: 'Requests that gateways hold until a router is there, and whether the model is scaled to zero.',
          unit: 'short',
          targets: [
            { expr: sum('guildhall_gateway_held_requests'), legend: 'held' },
            { expr: `max(${of('guildhall_autoscaler_asleep')}) or vector(0)`, legend: 'scaled to zero' },
          ],
        }),
        curves({
          title: 'Time held, p95',
          description: 'Of requests that were served in the end. It is the cold start that users see.',
          unit: 's',
          targets: [{ expr: `${quantile(0.95, 'guildhall_gateway_hold_seconds')} >= 0 or vector(0)`, legend: 'p95' }],
        }),
      ],
    },
  ],
};
