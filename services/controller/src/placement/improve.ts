import type { Draft } from './draft.ts';
import { timesOf } from './layer-times.ts';
import { LayerSearch } from './layer-search.ts';
import { enoughRows, leastWanted, loadPrice, type LoadUs } from './repair.ts';
import type { Usable } from './usable.ts';

/**
 * Improves a draft layer by layer, those with most to gain first, and keeps of each layer what makes its part of the
 * objective better: slowest worker, workers per token, bytes to load. With `noSlower` no layer's slowest worker gets slower.
 */
export function improve(draft: Draft, usable: Usable, noSlower: boolean): void {
  const { usPerExtraWorker } = draft.problem.input.weights;
  const loadUs = loadPrice(draft.problem);
  searchLayers(draft, usable, { targets: usable.active, usPerWorker: usPerExtraWorker, loadUs, noSlower });
}

/** Gives workers that have nothing a share of every layer where that makes the slowest worker faster. */
export function fill(draft: Draft, usable: Usable, empty: Uint8Array): void {
  searchLayers(draft, usable, { targets: empty, usPerWorker: 0, loadUs: () => 0, noSlower: true });
}

interface Aims {
  targets: Uint8Array;
  usPerWorker: number;
  loadUs: LoadUs;
  noSlower: boolean;
}

function searchLayers(draft: Draft, usable: Usable, { noSlower, ...aims }: Aims): void {
  const { problem } = draft;
  const least = leastWanted(problem, usable);
  const most = Math.max(problem.input.maxReplicas, least);
  const enough = enoughRows(problem, usable.active);
  let rest = problem.numLayers;
  for (const layer of byGap(draft)) {
    const experts = draft.holders[layer] as number[][];
    const left = draft.free.map((free) => Math.ceil(free / rest));
    rest -= 1;
    const before = experts.map((holders) => [...holders]);
    const beforeUs = timesOf(problem, layer, experts).slowestUs();
    const limitUs = noSlower ? beforeUs : Infinity;
    const search = new LayerSearch(draft, layer, { ...aims, left, least, most, enough, limitUs });
    const objective = (): number => search.objectiveUs() + loadsUs(layer, experts, aims.loadUs);
    const value = objective();
    if (!search.run()) continue;
    if (objective() < value && search.state.times.slowestUs() <= limitUs * (1 + 1e-12)) continue;
    for (const [expert, holders] of before.entries()) draft.set(layer, expert, holders);
  }
}

/** What the copies of a layer cost that have to be loaded. */
function loadsUs(layer: number, experts: readonly (readonly number[])[], loadUs: LoadUs): number {
  let us = 0;
  for (const [expert, holders] of experts.entries()) for (const worker of holders) us += loadUs(worker, layer, expert);
  return us;
}

/** Layers by how far the slowest worker is from the mean, furthest first. */
function byGap({ problem, holders }: Draft): number[] {
  const gaps = holders.map((experts, layer) => {
    const times = timesOf(problem, layer, experts);
    const total = problem.workers.reduce((sum, _, worker) => sum + times.time(worker), 0);
    return times.slowestUs() - total / problem.workers.length;
  });
  return gaps.map((_, layer) => layer).sort((a, b) => (gaps[b] as number) - (gaps[a] as number) || a - b);
}
