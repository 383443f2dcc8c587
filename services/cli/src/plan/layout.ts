import type { KvFormat, WeightFormat } from '@guildhall/native';
import { footprintOf, matrixBytes, type ModelConfig, type ModelFootprint } from '@guildhall/model/weights';
import { numMicroBatches } from '@guildhall/router/scheduling';
import type { KnownModel } from '../catalogue/models.ts';
import { type ModelShape, shapeOf } from '../simulate/model/shape.ts';
import { type Spread, workersPerToken } from './formulas.ts';
import type { Machine } from './machines.ts';

/** A model in the formats that it is to be served in. */
export interface PlannedModel {
  name: string;
  config: ModelConfig;
  print: ModelFootprint;
  shape: ModelShape;
}

/** Workers alike. */
export interface WorkerGroup {
  machine: Machine;
  count: number;
  /** Part of all experts that one of them holds as the first copy. */
  share: number;
}

/** Settings of the routers that decide about time and memory; names of docs/config.md. */
export interface RouterSettings {
  chunkTokens: number;
  microBatches: number;
  microBatchMin: number;
  maxMessageBytes: number;
  decodeSlowdown: number;
  stepBudgetMs: number;
  prefillBurstMs: number;
}

/** What runs where. */
export interface Layout {
  model: PlannedModel;
  router: Machine;
  routers: number;
  /** Empty where every router holds all experts itself. */
  groups: readonly WorkerGroup[];
  copies: number;
  /** Parts that the layers are dealt out in, each to its own workers; 1: every worker has experts of all layers. */
  layerShards: number;
  combine: 'exact' | 'partial';
  /** Routers and workers are processes of one machine. */
  oneMachine: boolean;
  settings: RouterSettings;
  /** Distinct workers that a token's row goes to on a layer. */
  workersPerToken: number;
}

/** A layout with what follows from it. */
export function makeLayout(parts: Omit<Layout, 'workersPerToken'>): Layout {
  return { ...parts, workersPerToken: workersPerToken(spreadOf(parts)) };
}

/** How the experts of a layer lie on the workers that have that layer. */
export function spreadOf(layout: Pick<Layout, 'model' | 'groups' | 'copies' | 'layerShards'>): Spread {
  const { numExperts, topK } = layout.model.shape;
  const workers = numWorkers(layout) / layout.layerShards;
  return { numExperts, topK, workers, copies: layout.copies };
}

/** A model under a weight format and a format of KV pages. */
export function planModel({ name, config }: KnownModel, weights: WeightFormat, kv: KvFormat): PlannedModel {
  const print = footprintOf(config, weights, kv);
  const fullLayers = Math.max(1, config.layerTypes.filter((type) => type === 'full_attention').length);
  const shape = shapeOf(name, config, print, {
    matrix: matrixBytes,
    expert: print.expertBytes,
    row: print.rowBytes,
    contextToken: print.kvTokenBytes / fullLayers,
  });
  return { name, config, print, shape };
}

/** Workers of all groups. */
export function numWorkers({ groups }: Pick<Layout, 'groups'>): number {
  return groups.reduce((sum, { count }) => sum + count, 0);
}

/** Micro-batches of a decode step; one where nothing is ever away. */
export function microBatchesOf(layout: Layout, streams: number): number {
  if (layout.groups.length === 0) return 1;
  const { microBatches, microBatchMin } = layout.settings;
  return numMicroBatches(streams, microBatches, microBatchMin);
}
