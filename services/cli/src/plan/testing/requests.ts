import { mustKnow } from '../../catalogue/models.ts';
import { checkMachine, type Machine, machineOf } from '../machines.ts';
import type { PlanRequest } from '../request.ts';

/** A machine from its fields. */
export function machine(fields: Record<string, unknown>): Machine {
  return machineOf(checkMachine(fields, 'a test'));
}

/** A request for the 397B on eight cards, with whatever a test wants otherwise. */
export function request(given: Partial<PlanRequest> = {}, traffic: Partial<PlanRequest['traffic']> = {}): PlanRequest {
  return {
    model: mustKnow('qwen3.5-397b-a17b'),
    machines: [machine({ kind: 'h100', count: 12, network: '100Gbit' })],
    traffic: {
      users: 8,
      context: 4096,
      promptTokens: 512,
      outputTokens: 256,
      requestsPerSecond: null,
      prefixHit: 0,
      sloTtftMs: null,
      sloItlMs: null,
      ...traffic,
    },
    weights: ['fp8'],
    kvDtype: 'auto',
    combine: ['exact'],
    copies: [2, 1],
    layerShards: 1,
    experts: ['remote', 'local'],
    routers: null,
    workers: null,
    decodeSlowdown: [1.6],
    ...given,
  };
}
