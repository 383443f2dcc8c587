import type { ModelConfig } from '../config.ts';
import { denseTensors, expertTensors, scaleName } from './expected.ts';
import { findLayout } from './layout.ts';

/** A part of a model: what one kind of process needs of it. */
export interface WeightSelection {
  /** The tensors of a router: everything but the routed experts. */
  dense: boolean;
  /** The routed experts of these layers, or null for none. */
  experts: { firstLayer: number; lastLayer: number; firstExpert: number; lastExpert: number } | null;
}

/**
 * Names of the tensors that a part of a model consists of, block scales included. Experts that are stored in one
 * tensor for a whole layer come with their layer.
 * @param where for messages.
 * @param names all tensors of the checkpoint.
 * @throws checkpoint_invalid where the names are no layout of the model.
 */
export function selectTensors(
  where: string,
  config: ModelConfig,
  names: ReadonlySet<string>,
  selection: WeightSelection,
): Set<string> {
  const layout = findLayout(where, (name) => names.has(name), config);
  const selected = new Set<string>();
  const add = (name: string): void => {
    for (const part of [name, scaleName(name)]) if (names.has(part)) selected.add(part);
  };
  if (selection.dense) for (const { name } of denseTensors(config, layout)) add(name);
  if (selection.experts === null) return selected;
  const { firstLayer, lastLayer, firstExpert, lastExpert } = selection.experts;
  for (const layer of layout.layers.slice(firstLayer, lastLayer + 1)) {
    for (const { name, expert } of expertTensors(config, layer)) {
      if (expert === null || (expert >= firstExpert && expert <= lastExpert)) add(name);
    }
  }
  return selected;
}
