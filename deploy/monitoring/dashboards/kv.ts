import type { Board } from '../board.ts';
import { curves } from '../panels.ts';
import { of, quantile, rate, ratio, sum } from '../queries.ts';

/** The page cache: what is reused, where it lies, what it costs. */
export const kv: Board = {
  name: 'kv',
  title: 'KV cache',
  description:
    'Prompt tokens that were not computed again, pages and states in every tier, and transfers between routers.',
  rows: [
    {
      title: 'Reuse',
      panels: [
        curves({
          title: 'Prompt tokens found in the cache',
          description: 'Share of the prompt tokens that were looked up.',
          unit: 'percentunit',
          max: 1,
          targets: [{ expr: ratio('vllm:prefix_cache_hits_total', 'vllm:prefix_cache_queries_total'), legend: 'hits' }],
        }),
        curves({
          title: 'Prompt tokens by source',
          description: 'Computed here, found here, or taken over from another router.',
          unit: 'short',
          targets: [{ expr: rate('vllm:prompt_tokens_by_source_total', ['source']), legend: '{{source}}' }],
          stacked: true,
        }),
        curves({
          title: 'Hits by tier',
          description: 'Tokens found in the pool, host memory, on disk, or on another router.',
          unit: 'short',
          targets: [{ expr: rate('guildhall_kv_hit_tokens_total', ['tier']), legend: '{{tier}}' }],
          stacked: true,
        }),
      ],
    },
    {
      title: 'Memory',
      panels: [
        curves({
          title: 'Pool in use',
          description: 'Share of each router’s pages that sequences use.',
          unit: 'percentunit',
          max: 1,
          targets: [{ expr: sum('vllm:kv_cache_usage_perc', ['pod']), legend: '{{pod}}' }],
        }),
        curves({
          title: 'Pages by state',
          description: 'Cached pages are free to be taken, and serve prefixes until then.',
          unit: 'short',
          targets: [{ expr: sum('guildhall_kv_pages', ['state']), legend: '{{state}}' }],
          stacked: true,
        }),
        curves({
          title: 'DeltaNet state slots',
          description: 'By state. Each running sequence has one.',
          unit: 'short',
          targets: [{ expr: sum('guildhall_state_slots', ['state']), legend: '{{state}}' }],
          stacked: true,
        }),
        curves({
          title: 'Tiers in use',
          description: 'Share of the capacity of each tier.',
          unit: 'percentunit',
          max: 1,
          targets: [
            {
              expr: `sum by (tier) (${of('guildhall_kv_tier_bytes')}) / (sum by (tier) (${of('guildhall_kv_tier_capacity_bytes')}) > 0) or vector(0)`,
              legend: '{{tier}}',
            },
          ],
        }),
        curves({
          title: 'Evictions',
          description: 'Pages and states that left a tier.',
          unit: 'ops',
          targets: [{ expr: rate('guildhall_kv_evictions_total', ['tier', 'reason']), legend: '{{tier}}: {{reason}}' }],
        }),
        curves({
          title: 'Preemptions',
          description: 'Sequences that gave their pages up, by how. Many mean a pool that is too small for the load.',
          unit: 'ops',
          targets: [{ expr: rate('guildhall_preemptions_total', ['how']), legend: '{{how}}' }],
        }),
      ],
    },
    {
      title: 'Between routers',
      panels: [
        curves({
          title: 'Transfers',
          description: 'Pages pulled from other routers, by outcome. Each that fails costs a recomputation.',
          unit: 'ops',
          targets: [{ expr: rate('guildhall_kv_pulls_total', ['outcome']), legend: '{{outcome}}' }],
          stacked: true,
        }),
        curves({
          title: 'Bytes pulled',
          description: 'Pages and states from other routers.',
          unit: 'Bps',
          targets: [{ expr: rate('guildhall_kv_pulled_bytes_total', ['kind']), legend: '{{kind}}' }],
        }),
        curves({
          title: 'Sequences moved',
          description: 'Away from routers that drain, by how, and taken over, by outcome.',
          unit: 'ops',
          targets: [
            { expr: rate('guildhall_sequences_moved_total', ['how']), legend: 'moved: {{how}}' },
            { expr: rate('guildhall_sequence_takeovers_total', ['outcome']), legend: 'taken over: {{outcome}}' },
          ],
        }),
      ],
    },
    {
      title: 'Directory and routing',
      panels: [
        curves({
          title: 'Lookups by outcome',
          description: 'What gateways found in the directory. timeout: routed by load instead.',
          unit: 'ops',
          targets: [{ expr: rate('guildhall_routing_lookups_total', ['outcome']), legend: '{{outcome}}' }],
          stacked: true,
        }),
        curves({
          title: 'A lookup, p95',
          description: 'As a request waits for it.',
          unit: 's',
          targets: [{ expr: quantile(0.95, 'guildhall_routing_lookup_seconds'), legend: 'p95' }],
        }),
        curves({
          title: 'Directory operations, p95',
          description: 'Redis, as gateways and routers use it for the directory.',
          unit: 's',
          targets: [{ expr: quantile(0.95, 'guildhall_directory_seconds', ['op']), legend: '{{op}}' }],
        }),
        curves({
          title: 'Entries in the directory',
          description: 'Names that routers have there or are about to write.',
          unit: 'short',
          targets: [{ expr: sum('guildhall_directory_entries', ['state']), legend: '{{state}}' }],
        }),
        curves({
          title: 'Faults of the cache',
          description: 'Each costs a miss, never an answer.',
          unit: 'ops',
          targets: [{ expr: rate('guildhall_kv_faults_total', ['kind']), legend: '{{kind}}' }],
        }),
        curves({
          title: 'Written back to disk',
          description: 'Pages and states by outcome.',
          unit: 'ops',
          targets: [{ expr: rate('guildhall_kv_write_backs_total', ['outcome']), legend: '{{outcome}}' }],
        }),
      ],
    },
  ],
};
