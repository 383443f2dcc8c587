import type { NativeBinding, Runtime, WeightFormat } from '@guildhall/native';
import type { ModelConfig } from '../config.ts';
import type { WeightReader } from '../weights/reader.ts';

/** What every block is built from. */
export interface BuildContext {
  native: NativeBinding;
  runtime: Runtime;
  weights: WeightReader;
  config: ModelConfig;
  /** Format that weights are packed in. */
  format: WeightFormat;
}

/** Common prefix of a layer's tensors. */
export function layerPrefix(context: BuildContext, index: number): string {
  return context.weights.layout.layers[index]?.prefix ?? '';
}

/** How many layers of the same type come before a layer: its layer in the pool of that type. */
export function indexAmongType(config: ModelConfig, index: number): number {
  const type = config.layerTypes[index];
  return config.layerTypes.slice(0, index).filter((other) => other === type).length;
}
