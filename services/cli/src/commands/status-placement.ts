import type { ControllerStatus } from '@guildhall/controller';
import { formatTable } from '../ui/table.ts';

/** What the leading controller says of the placement, a line each. */
export function controllerLines({
  controller,
  action,
  reason,
  imbalance,
  loading,
  refused,
  expected,
}: ControllerStatus): string[] {
  const lines = [`controller: ${controller}, ${action}: ${reason}`];
  const shown = [
    ...(imbalance.predicted === null ? [] : [`${imbalance.predicted.toFixed(2)} predicted`]),
    ...(imbalance.measured === null ? [] : [`${imbalance.measured.toFixed(2)} measured`]),
  ];
  if (shown.length > 0) lines.push(`busiest worker over the mean: ${shown.join(', ')}`);
  if (loading.length > 0) lines.push(`loading: ${loading.join(', ')}`);
  if (refused.length > 0) lines.push(`refused, of another checkpoint or numerics class: ${refused.join(', ')}`);
  if ((expected ?? []).length > 0) lines.push(`ready by Kubernetes and unknown to Redis: ${expected.join(', ')}`);
  return lines;
}

/** Tables of the workers' shares and of the drains; those that would be empty are left out. */
export function workerTables({ workers, drains }: ControllerStatus): string[] {
  const lines: string[] = [];
  if (workers.length > 0) {
    const rows = workers.map((worker) => [
      worker.id,
      worker.held,
      percent(worker.loadPlanned),
      percent(worker.loadMeasured),
      worker.usPerRow > 0 ? worker.usPerRow.toFixed(1) : '',
      worker.stalled ? `does not load; ${worker.problem}` : worker.problem,
    ]);
    lines.push('', formatTable(['worker', 'experts', 'load planned', 'load measured', 'µs/row', 'problem'], rows));
  }
  if (drains.length > 0) {
    const rows = drains.map(({ worker, state, keeps, by, why }) => [worker, state, keeps, by ?? 'itself', why]);
    lines.push('', formatTable(['drain', 'state', 'keeps', 'asked by', 'waits for'], rows));
  }
  return lines;
}

function percent(share: number): string {
  return `${(share * 100).toFixed(1)} %`;
}
