import { LATENCY, type MetricInfo } from './metric-info.ts';

/** Metrics of a router about its page cache, and about sequences that move between routers. */
export const KV_METRICS = {
  guildhall_kv_pages: {
    type: 'gauge',
    help: 'KV pages by state: free, used, or cached for prompts to come.',
    labels: ['state'],
    services: ['router'],
  },
  guildhall_state_slots: {
    type: 'gauge',
    help: 'DeltaNet state slots by state.',
    labels: ['state'],
    services: ['router'],
  },
  guildhall_kv_tier_capacity_bytes: {
    type: 'gauge',
    help: 'Limit of a tier of the page cache.',
    labels: ['tier'],
    services: ['router'],
  },
  guildhall_kv_tier_bytes: {
    type: 'gauge',
    help: 'Bytes that a tier of the page cache uses; on disk in whole blocks, with those of other models there.',
    labels: ['tier'],
    services: ['router'],
  },
  guildhall_kv_tier_held_bytes: {
    type: 'gauge',
    help: 'Bytes of sequences that were swapped out to a tier, part of what it uses.',
    labels: ['tier'],
    services: ['router'],
  },
  guildhall_kv_tier_blobs: {
    type: 'gauge',
    help: 'Pages and states in a tier of the page cache.',
    labels: ['tier', 'kind'],
    services: ['router'],
  },
  guildhall_kv_evictions_total: {
    type: 'counter',
    help: 'Pages and states that left a tier, by reason: evicted, leased (evicted while another router was about to fetch it), deleted, fault.',
    labels: ['tier', 'reason'],
    services: ['router'],
  },
  guildhall_kv_write_backs_total: {
    type: 'counter',
    help: 'Pages and states that were to be written to disk, by outcome: written, dropped (not worth it, or the disk is slow), failed.',
    labels: ['outcome'],
    services: ['router'],
  },
  guildhall_kv_faults_total: {
    type: 'counter',
    help: 'Faults of the page cache by kind; each costs a recomputation and nothing else.',
    labels: ['kind'],
    services: ['router'],
  },

  guildhall_kv_pulls_total: {
    type: 'counter',
    help: 'Transfers of pages from other routers by outcome: complete, partial, no_room, cancelled or a fault; slower and avoided were not begun.',
    labels: ['outcome'],
    services: ['router'],
  },
  guildhall_kv_pull_seconds: {
    type: 'histogram',
    help: 'One transfer of pages from another router.',
    labels: [],
    services: ['router'],
    buckets: LATENCY,
  },
  guildhall_kv_pulled_bytes_total: {
    type: 'counter',
    help: 'Bytes of pages and states pulled from other routers and found good.',
    labels: ['kind'],
    services: ['router'],
  },
  guildhall_kv_fetches_total: {
    type: 'counter',
    help: 'Transfers of pages to other routers by outcome.',
    labels: ['outcome'],
    services: ['router'],
  },
  guildhall_kv_served_bytes_total: {
    type: 'counter',
    help: 'Bytes of pages and states sent to other routers.',
    labels: [],
    services: ['router'],
  },
  guildhall_sequences_moved_total: {
    type: 'counter',
    help: 'Sequences that this router has moved away: parked with their pages, or as a request only.',
    labels: ['how'],
    services: ['router'],
  },
  guildhall_parked_sequences: {
    type: 'gauge',
    help: 'Sequences that wait here to be taken over by another router.',
    labels: [],
    services: ['router'],
  },
  guildhall_parked_ended_total: {
    type: 'counter',
    help: 'Parked sequences by how they left: taken, expired or dropped.',
    labels: ['how'],
    services: ['router'],
  },
  guildhall_sequence_takeovers_total: {
    type: 'counter',
    help: 'Moved sequences taken over from other routers by outcome; those that are not taken are computed again.',
    labels: ['outcome'],
    services: ['router'],
  },
} as const satisfies Record<string, MetricInfo>;
