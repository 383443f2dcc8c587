import type { ControllerStatus } from '@guildhall/controller';
import type { control } from '@guildhall/proto';
import { formatTable } from '../ui/table.ts';

type KubernetesStatus = NonNullable<ControllerStatus['kubernetes']>;

/** What the leading controller says of Kubernetes: who holds the Lease, what its watches miss, Deployments, pods, shrinks. */
export function kubernetesLines(status: KubernetesStatus): string[] {
  const { namespace, release, lease, watches, workloads, shrinks } = status;
  const mode = lease.mode === 'lock' ? '; the API server is away, the lock in Redis decides' : '';
  const lines = [
    '',
    `kubernetes: release ${release} in ${namespace}, Lease ${lease.name} held by ${lease.holder ?? 'nobody'}${mode}`,
  ];
  for (const { kind, problem, stale } of watches) {
    if (problem !== '' || stale) lines.push(`watch of ${kind}: ${stale ? 'stale; ' : ''}${problem}`);
  }
  if (workloads.length > 0)
    lines.push('', formatTable(['deployment', 'group', 'replicas', 'ready', 'note'], deployments(status)));
  const pods = workloads.flatMap(({ pods: all }) => all);
  if (pods.length > 0) {
    const rows = pods.map(({ name, node, phase, restarts }) => [name, node ?? '', phase, restarts]);
    lines.push('', formatTable(['pod', 'node', 'phase', 'restarts'], rows));
  }
  if (shrinks.length > 0) {
    const rows = shrinks.map((shrink) => [shrink.deployment, shrink.state, shrink.pods.join(', '), shrink.why]);
    lines.push('', formatTable(['shrinks', 'state', 'pods', 'waits for'], rows));
  }
  return lines;
}

function deployments({ workloads }: KubernetesStatus): (string | number)[][] {
  return workloads.map(({ deployment, name, replicas, pods, foreignWriter, otherScaler, paused, rolling }) => {
    const notes = [
      ...(rolling ? ['rolling'] : []),
      ...(paused ? ['paused'] : []),
      ...(otherScaler === null ? [] : [`scaled by ${otherScaler}`]),
      ...(foreignWriter === null ? [] : [`replicas written by ${foreignWriter}`]),
    ];
    const ready = pods.filter(({ phase }) => phase === 'ready').length;
    return [deployment, name, replicas, ready, notes.join(', ')];
  });
}

/** Cells of a member that only Kubernetes gives, and their headings; none where no member has any. */
export function placeColumns(members: readonly control.Member[]): {
  headings: string[];
  cells: (member: control.Member) => string[];
} {
  const placed = members.some(({ node, group }) => node !== '' || group !== '');
  if (!placed) return { headings: [], cells: () => [] };
  return { headings: ['node', 'group'], cells: ({ node, group }) => [node, group] };
}
