import type { Problem } from './problem.ts';

/**
 * Distinct workers that a token's experts of a layer are on, as expected when a token takes a holder of each expert by
 * the same shares as its rows: over the samples where there are some (of which `mostTokens` are enough), else with experts that are chosen independently.
 */
export function workersPerToken(
  problem: Problem,
  layer: number,
  holders: readonly (readonly number[])[],
  mostTokens = Infinity,
): number {
  const samples = problem.samples[layer] ?? null;
  if (samples === null) return independent(problem, layer, holders);
  const count = samples.length / problem.input.topK;
  return sampled(problem, samples, holders, Math.max(1, Math.floor(count / mostTokens)));
}

function sampled(
  problem: Problem,
  samples: Uint16Array,
  holders: readonly (readonly number[])[],
  every: number,
): number {
  const { topK } = problem.input;
  const factors = holders.map((workers) => missFactors(workers, problem.speed));
  // Chance that a worker gets nothing of the token; 1 between tokens.
  const misses = new Float64Array(problem.workers.length).fill(1);
  const count = Math.floor(samples.length / topK);
  let total = 0;
  let seen = 0;
  for (let token = 0; token < count; token += every) {
    seen += 1;
    const begin = token * topK;
    for (let i = begin; i < begin + topK; i++) {
      const expert = samples[i] as number;
      const workers = holders[expert] as readonly number[];
      const factor = factors[expert] as readonly number[];
      for (let copy = 0; copy < workers.length; copy++) {
        const worker = workers[copy] as number;
        misses[worker] = (misses[worker] as number) * (factor[copy] as number);
      }
    }
    for (let i = begin; i < begin + topK; i++) {
      for (const worker of holders[samples[i] as number] as readonly number[]) {
        total += 1 - (misses[worker] as number);
        misses[worker] = 1;
      }
    }
  }
  return total / seen;
}

/** Chance for each holder of an expert that a token which chose the expert does not go there. */
function missFactors(workers: readonly number[], speed: Float64Array): number[] {
  let all = 0;
  for (const worker of workers) all += speed[worker] as number;
  return workers.map((worker) => 1 - (speed[worker] as number) / all);
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
