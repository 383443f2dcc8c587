import type { Draft } from './draft.ts';
import { timesOf } from './layer-times.ts';
import { LayerSearch } from './layer-search.ts';
import type { Problem } from './problem.ts';
import { enoughRows, leastWanted, loadPrice, type LoadUs } from './repair.ts';
import type { Usable } from './usable.ts';
import { workersPerToken } from './workers-per-token.ts';

/**
 * Improves a draft layer by layer, those with most to gain first, and keeps of each layer what makes its part of the
 * objective better: slowest worker, workers per token, bytes to load.
 */
export function improve(draft: Draft, usable: Usable): void {
  const loadUs = loadPrice(draft.problem);
  searchLayers(draft, usable, usable.active, loadUs, (layer, experts) =>
    layerObjective(draft.problem, layer, experts, loadUs),
  );
}

/** Gives workers that have nothing a share of every layer where that makes the slowest worker faster. */
export function fill(draft: Draft, usable: Usable, empty: Uint8Array): void {
  searchLayers(
    draft,
    usable,
    empty,
    () => 0,
    (layer, experts) => timesOf(draft.problem, layer, experts).slowestUs(),
  );
}

function searchLayers(
  draft: Draft,
  usable: Usable,
  targets: Uint8Array,
  loadUs: LoadUs,
  objective: (layer: number, holders: readonly number[][]) => number,
): void {
  const { problem } = draft;
  const least = leastWanted(problem, usable);
  const most = Math.max(problem.input.maxReplicas, least);
  const enough = enoughRows(problem, usable.active);
  let rest = problem.numLayers;
  for (const layer of byGap(draft)) {
    const experts = draft.holders[layer] as number[][];
    const left = draft.free.map((free) => Math.ceil(free / rest));
    rest -= 1;
    const before = { holders: experts.map((holders) => [...holders]), value: objective(layer, experts) };
    const changes = new LayerSearch(draft, layer, { targets, left, least, most, enough, loadUs }).balance();
    if (changes > 0 && objective(layer, experts) >= before.value) restore(draft, layer, before.holders);
  }
}

function restore(draft: Draft, layer: number, holders: readonly number[][]): void {
  for (const [expert, workers] of holders.entries()) {
    draft.set(layer, expert, workers);
  }
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

/** A layer's part of the objective, in microseconds. */
function layerObjective(problem: Problem, layer: number, holders: readonly number[][], loadUs: LoadUs): number {
  const { usPerExtraWorker } = problem.input.weights;
  let us = timesOf(problem, layer, holders).slowestUs();
  if (usPerExtraWorker !== 0) us += usPerExtraWorker * workersPerToken(problem, layer, holders);
  for (const [expert, workers] of holders.entries()) for (const worker of workers) us += loadUs(worker, layer, expert);
  return us;
}
