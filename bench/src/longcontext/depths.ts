import type { ModelSize } from '../models/specs.ts';

/** Depth that the others are compared with. */
export const BASE_DEPTH = 1024;

/** Tokens of context at which decode is timed, doubling: up to 256K, and up to 32K for the small models. */
export function depthsOf(size: ModelSize): number[] {
  const most = size === 'bench' ? 262_144 : 32_768;
  const depths: number[] = [];
  for (let depth = BASE_DEPTH; depth <= most; depth *= 2) depths.push(depth);
  return depths;
}

/** 1K, 256K. */
export function depthName(depth: number): string {
  return `${depth / 1024}K`;
}

/** Steps of one timing: more where they are short. */
export function stepsAt(depth: number): number {
  return depth >= 65_536 ? 8 : 16;
}
