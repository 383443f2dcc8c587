import { type Logger, newIncarnation, openCoreLeases, processId } from '@guildhall/common';
import {
  Checkpoint,
  kvFormatOf,
  loadModelConfig,
  type ModelConfig,
  numericsId,
  rowFormatOf,
  WeightReader,
} from '@guildhall/model/weights';
import { type ExpertShard, loadNative, type NativeBinding, type Runtime } from '@guildhall/native';
import type { ExpertConfig } from './config.ts';
import type { WorkerIdentity } from './identity.ts';

/** A worker's model and where it computes. */
export interface Engine {
  native: NativeBinding;
  runtime: Runtime;
  weights: WeightReader;
  model: ModelConfig;
  shard: ExpertShard;
  identity: WorkerIdentity;
}

/**
 * Opens the checkpoint and makes the native parts. Files are read, not mapped: one that is cut short under a running worker
 * is then an error and no signal that ends it.
 * Errors: `checkpoint_not_found`, `checkpoint_invalid`.
 */
export function openEngine(config: ExpertConfig, logger: Logger): Engine {
  const native = loadNative();
  const { threads, isa, bf16Kernels } = config;
  const coreLeases = openCoreLeases({ mode: config.coreLeases, native: native.CoreLeases, logger });
  const runtime = new native.Runtime({ threads, isa, bf16Kernels, coreLeases });
  const model = loadModelConfig(config.model);
  const checkpoint = Checkpoint.open(config.model);
  for (const notice of checkpoint.notices) logger.info({ notice }, 'checkpoint');
  const weights = WeightReader.open({
    checkpoint,
    format: config.weights,
    cache: config.weightsCache,
    quantise: (source, format) => native.quantise(runtime, source, format),
    mapFile: null,
    env: process.env,
    onWarning: (message) => logger.warn({ message }, 'weights cache'),
  });
  const rowFormat = rowFormatOf(config.weights);
  const kvFormat = kvFormatOf(config.weights, config.kvDtype);
  const { hidden, numLayers } = model;
  const { numExperts, topK, intermediate } = model.moe;
  const shard = new native.ExpertShard(runtime, {
    numLayers,
    numExperts,
    hidden,
    intermediate,
    format: config.weights,
    rowFormat,
  });
  const identity: WorkerIdentity = {
    id: processId('expert', config.id),
    incarnation: newIncarnation(),
    fingerprint: checkpoint.fingerprint,
    numericsId: numericsId({
      kernelFamily: runtime.kernelFamily(config.weights),
      weights: config.weights,
      rowFormat,
      kvFormat,
      kvKernel: runtime.kvKernel(kvFormat),
      combine: config.combine,
    }),
    rowFormat,
    combine: config.combine,
    hidden,
    numLayers,
    numExperts,
    topK,
    maxMessageBytes: config.maxMessageBytes,
    maxQueued: config.maxQueued,
  };
  return { native, runtime, weights, model, shard, identity };
}
