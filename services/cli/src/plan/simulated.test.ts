import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { mustKnow } from '../catalogue/models.ts';
import { type SimulateFlags, optionsFor } from '../simulate/options.ts';
import { Simulation } from '../simulate/simulation.ts';
import { ROUTER_SETTINGS } from './evaluate.ts';
import { type Layout, makeLayout, planModel } from './layout.ts';
import type { Machine } from './machines.ts';
import { decodeStep } from './step.ts';
import { machine } from './testing/requests.ts';

const STREAMS = 16;
const CONTEXT = 8192;

/** As `guildhall simulate` takes them when nothing is said, but for a short time and without popular experts. */
function simulated(workers: number, given: Partial<SimulateFlags>): Simulation {
  const flags: SimulateFlags = {
    preset: 'qwen3.5-397b',
    workers: `${workers}`,
    routers: '1',
    workerKind: 'gpu',
    routerKind: 'gpu',
    link: '100G',
    transport: 'grpc',
    combine: 'exact',
    batch: `${STREAMS}`,
    prompt: '1',
    answer: '512',
    context: `${CONTEXT}`,
    skew: '0',
    affinity: '0',
    copies: '1',
    mostCopies: '1',
    hedgeShare: '0',
    seconds: '0.25',
    seed: '1',
    ...given,
  };
  return new Simulation(optionsFor(flags, workers));
}

/** The same cluster for the planner, with the costs that the simulator has. */
function planned(workers: number, given: Partial<Layout>): Layout {
  const costs = {
    usPerLayer: 0,
    usPerRow: 0,
    usPerCall: 24,
    usPerKib: 0.28,
    workerUsPerMessage: 0,
    workerUsPerEntry: 0.02,
    workerUsPerKib: 0,
    latencyUs: 0,
    usPerToken: 10,
  };
  const card: Machine = { ...machine({ kind: 'h100', count: 2 * workers, network: '100Gbit' }), host: costs };
  return makeLayout({
    model: planModel(mustKnow('qwen3.5-397b-a17b'), 'fp8', 'bf16'),
    router: card,
    routers: 1,
    groups: [{ machine: card, count: workers, share: 1 / workers }],
    copies: 1,
    layerShards: 1,
    combine: 'exact',
    oneMachine: false,
    settings: ROUTER_SETTINGS,
    ...given,
  });
}

/** The formulas against the discrete simulation, which runs the router's own scheduler, dispatch and placement. */
describe('the time between tokens', () => {
  const cases: [string, number, Partial<SimulateFlags>, Partial<Layout>][] = [
    ['eight workers', 8, {}, {}],
    ['eight workers and sums that come back', 8, { combine: 'partial' }, { combine: 'partial' }],
    ['sixteen workers', 16, {}, {}],
  ];
  for (const [name, workers, flags, layout] of cases) {
    it(`is that of the simulation with ${name}`, async () => {
      const { interTokenMs } = await simulated(workers, flags).run();
      const { ms } = decodeStep(planned(workers, layout), STREAMS, CONTEXT);
      assert.ok(Math.abs(ms / interTokenMs.p50 - 1) < 0.25, `planned ${ms} ms, simulated ${interTokenMs.p50} ms`);
    });
  }
});
