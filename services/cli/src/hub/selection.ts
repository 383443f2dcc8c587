import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fail } from '@guildhall/common';
import { loadModelConfig, selectTensors } from '@guildhall/model/weights';
import type { HubFile } from './hub-client.ts';

/** Which part of a model is wanted. */
export interface PullSelection {
  /** Everything. */
  whole: boolean;
  /** What a router reads. */
  dense: boolean;
  /** Layers of the routed experts, inclusive; null for all. */
  layers: [number, number] | null;
  /** Routed experts, inclusive; null for all. */
  experts: [number, number] | null;
  /** Part `index` (from 1) of `count` equal parts of the layers; null for none. */
  shard: { index: number; count: number } | null;
}

/** Files of a commit by what is to be done with them. */
export interface SelectedFiles {
  whole: HubFile[];
  /** Safetensors files of the model that are not wanted here. */
  outlined: HubFile[];
}

export const INDEX_NAME = 'model.safetensors.index.json';

const WEIGHTS = /\.safetensors$/;
// What a model is served and described with; not other frameworks' weights, pictures or subfolders.
const KEPT = /^(?:[\w.-]+\.(?:json|jinja|txt|model|md|safetensors)|LICEN[CS]E[\w.-]*|NOTICE[\w.-]*)$/;

/** True for the files that a pull brings unless it is told to bring all. */
export function isKept(path: string): boolean {
  return KEPT.test(path) && !path.startsWith('.');
}

/** True for files of weights. */
export function isWeights(path: string): boolean {
  return WEIGHTS.test(path);
}

/**
 * Sorts the weight files of a commit. The files that describe the model have to be in `dir` already.
 * @throws hub_invalid where index and listing do not fit, checkpoint_invalid, config_invalid for a part that the model
 * does not have.
 */
export function selectWeights(dir: string, files: readonly HubFile[], selection: PullSelection): SelectedFiles {
  const weights = files.filter((file) => isWeights(file.path));
  const index = readIndex(dir, files);
  const used = index === null ? unindexed(weights) : indexed(weights, index);
  if (selection.whole || index === null) return { whole: used, outlined: [] };
  const config = loadModelConfig(dir);
  const names = selectTensors(dir, config, new Set(index.keys()), {
    dense: selection.dense,
    experts: expertRanges(selection, config.numLayers, config.moe.numExperts),
  });
  const wanted = new Set([...names].map((name) => index.get(name)));
  return {
    whole: used.filter((file) => wanted.has(file.path)),
    outlined: used.filter((file) => !wanted.has(file.path)),
  };
}

function expertRanges(
  { layers, experts, shard }: PullSelection,
  numLayers: number,
  numExperts: number,
): { firstLayer: number; lastLayer: number; firstExpert: number; lastExpert: number } | null {
  if (layers === null && experts === null && shard === null) return null;
  const [firstLayer, lastLayer] = shard === null ? (layers ?? [0, numLayers - 1]) : shardLayers(shard, numLayers);
  const [firstExpert, lastExpert] = experts ?? [0, numExperts - 1];
  if (lastLayer >= numLayers) throw outside('layers', lastLayer, numLayers);
  if (lastExpert >= numExperts) throw outside('experts', lastExpert, numExperts);
  return { firstLayer, lastLayer, firstExpert, lastExpert };
}

function shardLayers({ index, count }: { index: number; count: number }, numLayers: number): [number, number] {
  if (count > numLayers) throw outside('shard', count, numLayers);
  const at = (part: number): number => Math.floor((numLayers * part) / count);
  return [at(index - 1), at(index) - 1];
}

function outside(flag: string, found: number, count: number): Error {
  return fail('config_invalid', `--${flag}: ${found} is too much: the model has ${count}, numbered from 0`, {
    field: flag,
  });
}

/** Tensor names and their files; null for a model in a single file. */
function readIndex(dir: string, files: readonly HubFile[]): Map<string, string> | null {
  if (!files.some((file) => file.path === INDEX_NAME)) return null;
  try {
    const root = JSON.parse(readFileSync(join(dir, INDEX_NAME), 'utf8')) as { weight_map: Record<string, unknown> };
    return new Map(Object.entries(root.weight_map).map(([name, file]) => [name, String(file)]));
  } catch (err) {
    throw fail('hub_invalid', `${INDEX_NAME} holds no weight_map`, { cause: err });
  }
}

function indexed(weights: readonly HubFile[], index: ReadonlyMap<string, string>): HubFile[] {
  const byPath = new Map(weights.map((file) => [file.path, file]));
  return [...new Set(index.values())].sort().map((path) => {
    const file = byPath.get(path);
    if (file === undefined) {
      throw fail(
        'hub_invalid',
        `${INDEX_NAME} names ${JSON.stringify(path.slice(0, 120))}, which is not in the repository`,
      );
    }
    return file;
  });
}

/** As the checkpoint reader takes them: the single file where there is one, else all of the top folder. */
function unindexed(weights: readonly HubFile[]): HubFile[] {
  const single = weights.filter((file) => file.path === 'model.safetensors');
  return single.length > 0 ? single : weights.filter((file) => !file.path.includes('/'));
}
