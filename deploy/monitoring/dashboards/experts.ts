import type { Board } from '../board.ts';
import { curves, latency } from '../panels.ts';
import { of, quantile, rate, ratio, sum } from '../queries.ts';

/** The rows of a layer on their way to workers and back. */
export const experts: Board = {
  name: 'experts',
  title: 'Experts',
  description: 'Rows on their way to expert workers and back, what workers compute, and how experts are placed.',
  rows: [
    {
      title: 'Dispatch',
      panels: [
        latency(
          { title: 'Decode: rows away', description: 'From sending the rows of a layer to its last reply.' },
          'guildhall_dispatch_seconds',
          'lane="decode"',
        ),
        latency(
          { title: 'Prefill: rows away', description: 'From sending the rows of a layer to its last reply.' },
          'guildhall_dispatch_seconds',
          'lane="prefill"',
        ),
        curves({
          title: 'Workers for each row',
          description: 'To how many workers a token’s row goes in a layer. Fewer is cheaper: placement aims for it.',
          unit: 'short',
          targets: [
            {
              expr: ratio('guildhall_dispatch_row_workers_total', 'guildhall_dispatch_rows_total'),
              legend: 'workers a row',
            },
          ],
        }),
        curves({
          title: 'Bytes of rows',
          description: 'Sent to and received from workers. The link of a router sets the ceiling.',
          unit: 'Bps',
          targets: [{ expr: rate('guildhall_dispatch_bytes_total', ['direction']), legend: '{{direction}}' }],
        }),
        curves({
          title: 'Replies by status',
          description: 'not_held right after a change of placement is harmless; busy means a worker that is too slow.',
          unit: 'ops',
          targets: [{ expr: rate('guildhall_dispatch_messages_total', ['status']), legend: '{{status}}' }],
          stacked: true,
        }),
        curves({
          title: 'Rows sent again, and second calls',
          description: 'Retries by reason, and hedges for stragglers by outcome.',
          unit: 'ops',
          targets: [
            { expr: rate('guildhall_dispatch_retries_total', ['reason']), legend: 'retry: {{reason}}' },
            { expr: rate('guildhall_dispatch_hedges_total', ['outcome']), legend: 'hedge: {{outcome}}' },
          ],
        }),
      ],
    },
    {
      title: 'Workers',
      panels: [
        curves({
          title: 'Rows computed, by worker',
          description: 'Even where experts are placed well and machines are alike.',
          unit: 'ops',
          targets: [{ expr: rate('guildhall_expert_rows_total', ['pod'], 'component="expert"'), legend: '{{pod}}' }],
        }),
        curves({
          title: 'Compute for a message, p95',
          description: 'A worker that stands out is slow or shares its machine.',
          unit: 's',
          targets: [{ expr: quantile(0.95, 'guildhall_expert_compute_seconds', ['pod']), legend: '{{pod}}' }],
        }),
        curves({
          title: 'Wait in workers’ queues, p95',
          description: 'By lane. Decode goes first.',
          unit: 's',
          targets: [{ expr: quantile(0.95, 'guildhall_expert_queue_seconds', ['lane']), legend: '{{lane}}' }],
        }),
        curves({
          title: 'Experts held',
          description: 'Experts that each worker can serve.',
          unit: 'short',
          targets: [{ expr: sum('guildhall_experts_held', ['pod']), legend: '{{pod}}' }],
        }),
        curves({
          title: 'Experts to load',
          description: 'What the placement gives a worker and it has not loaded yet. Stuck above 0: see the alert.',
          unit: 'short',
          targets: [{ expr: sum('guildhall_expert_loads_pending', ['pod']), legend: '{{pod}}' }],
        }),
        curves({
          title: 'Native memory of workers',
          description: 'Weights and buffers outside JavaScript.',
          unit: 'bytes',
          targets: [{ expr: sum('guildhall_native_bytes', ['kind'], 'component="expert"'), legend: '{{kind}}' }],
          stacked: true,
        }),
      ],
    },
    {
      title: 'Placement',
      panels: [
        curves({
          title: 'Busiest worker over the mean',
          description:
            'As predicted when the epoch was made and as measured. Far apart: the load has changed, or a worker is slow.',
          unit: 'short',
          targets: [{ expr: `max by (kind) (${of('guildhall_placement_imbalance')})`, legend: '{{kind}}' }],
        }),
        curves({
          title: 'Experts covered',
          description: 'Below 1 sequences wait for experts that nobody holds.',
          unit: 'percentunit',
          max: 1,
          targets: [{ expr: `min by (component) (${of('guildhall_expert_coverage')})`, legend: '{{component}}' }],
        }),
        curves({
          title: 'Epoch',
          description: 'Least epoch that each kind of process has taken up. Routers and workers follow the controller.',
          unit: 'short',
          targets: [{ expr: `min by (component) (${of('guildhall_epoch')})`, legend: '{{component}}' }],
        }),
        curves({
          title: 'Placements and moves',
          description: 'Placements by outcome, and experts that were given to another worker.',
          unit: 'ops',
          targets: [
            { expr: rate('guildhall_placements_total', ['outcome']), legend: '{{outcome}}' },
            { expr: rate('guildhall_expert_moves_total'), legend: 'experts moved' },
          ],
        }),
        curves({
          title: 'Workers by state',
          description: 'As the leading controller counts them.',
          unit: 'short',
          targets: [{ expr: `max by (state) (${of('guildhall_workers')})`, legend: '{{state}}' }],
          stacked: true,
        }),
        curves({
          title: 'Drains',
          description: 'By state. One that moves for long waits for room or for slow loads: see `guildhall status`.',
          unit: 'short',
          targets: [{ expr: `max by (state) (${of('guildhall_drains')})`, legend: '{{state}}' }],
        }),
      ],
    },
    {
      title: 'Faults',
      panels: [
        curves({
          title: 'Failover within a layer, p99',
          description: 'From the first failed call of a layer to its rows from another worker.',
          unit: 's',
          targets: [
            {
              expr: `${quantile(0.99, 'guildhall_dispatch_failover_seconds')} >= 0 or vector(0)`,
              legend: 'p99',
            },
          ],
        }),
        curves({
          title: 'Workers behind an open breaker',
          description: 'Routers that send a worker only what nobody else holds.',
          unit: 'short',
          targets: [
            { expr: `sum by (worker) (${of('guildhall_worker_breaker_open')}) or vector(0)`, legend: '{{worker}}' },
          ],
        }),
        curves({
          title: 'Experts without a holder',
          description: 'Pairs that lost their last worker, and those that have one again.',
          unit: 'ops',
          targets: [
            { expr: rate('guildhall_experts_lost_total'), legend: 'lost' },
            { expr: rate('guildhall_experts_recovered_total'), legend: 'recovered' },
            { expr: rate('guildhall_fallback_rows_total'), legend: 'rows computed by routers' },
          ],
        }),
      ],
    },
  ],
};
