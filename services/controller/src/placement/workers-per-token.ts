import type { Problem } from './problem.ts';

/** Sampled sets of a layer, [n][topK] flat; null where there are none. */
export function samplesOf({ input }: Problem, layer: number): Uint16Array | null {
  const samples = input.samples?.[layer] ?? null;
  return samples === null || samples.length < input.topK ? null : samples;
}

/**
 * Distinct workers that a token's experts of a layer are on, as expected when a token takes a holder of each expert by
 * the same shares as its rows: over the samples where there are some, else with experts that are chosen independently.
 */
export function workersPerToken(problem: Problem, layer: number, holders: readonly (readonly number[])[]): number {
  const samples = samplesOf(problem, layer);
  return samples === null ? independent(problem, layer, holders) : sampled(problem, samples, holders);
}

function sampled(problem: Problem, samples: Uint16Array, holders: readonly (readonly number[])[]): number {
  const { topK } = problem.input;
  const { speed } = problem;
  // Chance that a worker gets nothing of the token; 1 between tokens.
  const misses = new Float64Array(problem.workers.length).fill(1);
  const count = Math.floor(samples.length / topK);
  let total = 0;
  for (let token = 0; token < count; token++) {
    const set = samples.subarray(token * topK, (token + 1) * topK);
    for (const expert of set) missBy(misses, holders[expert] ?? [], speed);
    for (const expert of set) {
      for (const worker of holders[expert] ?? []) {
        total += 1 - (misses[worker] as number);
        misses[worker] = 1;
      }
    }
  }
  return total / count;
}

function missBy(misses: Float64Array, holders: readonly number[], speed: Float64Array): void {
  let all = 0;
  for (const worker of holders) all += speed[worker] as number;
  for (const worker of holders) {
    misses[worker] = (misses[worker] as number) * (1 - (speed[worker] as number) / all);
  }
}

function independent(problem: Problem, layer: number, holders: readonly (readonly number[])[]): number {
  const { batchTokens, rows, numExperts, speed, workers } = problem;
  const misses = new Float64Array(workers.length).fill(1);
  for (const [expert, on] of holders.entries()) {
    const chance = Math.min(1, (rows[layer * numExperts + expert] as number) / batchTokens);
    let all = 0;
    for (const worker of on) all += speed[worker] as number;
    for (const worker of on) {
      misses[worker] = (misses[worker] as number) * (1 - (chance * (speed[worker] as number)) / all);
    }
  }
  let total = 0;
  for (const miss of misses) total += 1 - miss;
  return total;
}
