import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { errorInfo, fail, type Logger, openCoreLeases } from '@guildhall/common';
import {
  Checkpoint,
  loadGenerationConfig,
  loadModelConfig,
  LocalExperts,
  type ModelConfig,
  TextModel,
  Tokenizer,
  WeightReader,
} from '@guildhall/model';
import {
  type ExpertShard,
  type KvPool,
  loadNative,
  type NativeBinding,
  type Runtime,
  type StatePool,
  type StepBuffers,
} from '@guildhall/native';
import { numMicroBatches } from './batch.ts';
import type { RouterConfig } from './config.ts';
import { PAGE_TOKENS } from './kv/page-pool.ts';

/** The model and everything of a fixed size that sequences run in. */
export interface LoadedModel {
  native: NativeBinding;
  runtime: Runtime;
  model: TextModel;
  /** Every expert, with `--experts local`; null where workers hold them. */
  shard: ExpertShard | null;
  /** Where weights came from; experts that no worker holds may be read later. */
  reader: WeightReader;
  config: ModelConfig;
  fingerprint: string;
  numericsId: string;
  /** Null for a checkpoint without tokenizer.json; stop strings need it. */
  tokenizer: Tokenizer | null;
  eosIds: readonly number[];
  servedModels: readonly string[];
  pools: { kv: KvPool; states: StatePool | null };
  /** State slots for shared prefixes, after those of the running sequences. */
  numSnapshots: number;
  /** Tokens of prompt and answer together. */
  maxContext: number;
  rowBytes: number;
  prefillBuffers: StepBuffers;
  /** Logit rows that one prefill step may produce. */
  prefillLogitRows: number;
  decodeBuffers: StepBuffers[];
}

/** Sequences that one prefill step may hold. */
export const MAX_PREFILL_SEQUENCES = 64;
/** Logit rows of one prefill step: those of a whole page when prompt log-probabilities are asked for. */
const PREFILL_LOGIT_ROWS = 64;
/** Part of the KV cache's size that snapshots may take beside it, and how many there are at least. */
const SNAPSHOT_SHARE = 4;
const LEAST_SNAPSHOTS = 4;

/**
 * Loads the dense part of a checkpoint, and its experts if they are to be local, and makes pools and buffers. The event
 * loop keeps turning meanwhile. Errors: `checkpoint_not_found`, `checkpoint_invalid`, `config_invalid`, native ones;
 * `cancelled` when the signal aborts.
 */
export async function loadModel(config: RouterConfig, logger: Logger, signal: AbortSignal): Promise<LoadedModel> {
  const native = loadNative();
  const threads = config.threads ?? availableParallelism();
  const coreLeases = openCoreLeases({ mode: config.coreLeases, native: native.CoreLeases, logger });
  const runtime = new native.Runtime({ threads, isa: config.isa, bf16Kernels: config.bf16Kernels, coreLeases });
  const checkpoint = Checkpoint.open(config.model, { mapFile: (fd, length) => native.mapFile(fd, length) });
  for (const notice of checkpoint.notices) logger.info({ notice }, 'checkpoint');
  const modelConfig = loadModelConfig(config.model);
  const { model, shard, reader } = await loadWeights({
    config,
    native,
    runtime,
    checkpoint,
    modelConfig,
    logger,
    signal,
  });
  const hasTokenizer = existsSync(join(config.model, 'tokenizer.json'));
  const tokenizer = hasTokenizer ? Tokenizer.load(config.model) : null;
  const kv = model.createKvPool(numPagesOf(config, model));
  const numSnapshots = snapshotsOf(config, model, kv);
  const states = model.createStatePool(config.maxRunning + numSnapshots);
  const chunk = { maxTokens: config.chunkTokens, maxLogitRows: PREFILL_LOGIT_ROWS };
  const perBatch = microBatchCapacity(config);
  const decode = { maxTokens: perBatch, maxLogitRows: perBatch };
  return {
    native,
    runtime,
    model,
    shard,
    reader,
    config: modelConfig,
    fingerprint: checkpoint.fingerprint,
    numericsId: model.numericsId(config.combine),
    tokenizer,
    eosIds: hasTokenizer ? loadGenerationConfig(config.model, tokenizer).eosIds : modelConfig.eosIds,
    servedModels: config.servedModelName.length > 0 ? config.servedModelName : [basename(resolve(config.model))],
    pools: { kv, states },
    numSnapshots,
    maxContext: contextOf(config, modelConfig, kv.numPages, logger),
    rowBytes: modelConfig.hidden * (model.rowFormat === 'f32' ? 4 : 2),
    prefillBuffers: model.createStepBuffers(chunk),
    prefillLogitRows: chunk.maxLogitRows,
    decodeBuffers: Array.from({ length: microBatchesOf(config) }, () => model.createStepBuffers(decode)),
  };
}

interface LoadingWeights {
  config: RouterConfig;
  native: NativeBinding;
  runtime: Runtime;
  checkpoint: Checkpoint;
  modelConfig: ModelConfig;
  logger: Logger;
  signal: AbortSignal;
}

/** The dense weights, and the experts where they are local. */
async function loadWeights(
  o: LoadingWeights,
): Promise<{ model: TextModel; shard: ExpertShard | null; reader: WeightReader }> {
  const { config, native, runtime, checkpoint, logger, signal } = o;
  if (config.experts === 'local' && config.combine !== 'exact') {
    throw fail('config_invalid', '--combine partial needs experts in workers', { field: 'combine' });
  }
  const progress = (what: string) => (done: number, total: number) => {
    if (signal.aborted) throw fail('cancelled', 'stopped while loading');
    logger.info({ done, total }, what);
  };
  const reader = openReader(config, native, runtime, checkpoint, logger);
  const weights = { runtime, checkpoint, config: o.modelConfig, weights: config.weights, reader };
  // Side by side: dense weights are packed on this thread, experts on native ones.
  const [model, experts] = await bothLoaded(
    TextModel.load({ ...weights, kvDtype: config.kvDtype, onProgress: progress('loading dense weights') }),
    config.experts === 'local' ? LocalExperts.load({ ...weights, onProgress: progress('loading experts') }) : null,
  );
  await reader.flush();
  const { hits, misses, written } = reader.counts;
  if (hits + misses > 0) logger.info({ fromDisk: hits, quantised: misses, written }, 'quantised weights');
  return { model, shard: experts?.shard ?? null, reader };
}

function openReader(
  config: RouterConfig,
  native: NativeBinding,
  runtime: Runtime,
  checkpoint: Checkpoint,
  logger: Logger,
): WeightReader {
  return WeightReader.open({
    checkpoint,
    format: config.weights,
    cache: config.weightsCache,
    quantise: (source, format) => native.quantise(runtime, source, format),
    mapFile: (fd, length) => native.mapFile(fd, length),
    env: process.env,
    onWarning: (message) => logger.warn({ message }, 'weights cache'),
  });
}

/** Waits for both, so that nothing goes on loading when one has failed. */
async function bothLoaded<A, B>(first: Promise<A>, second: Promise<B> | null): Promise<[A, B | null]> {
  const [a, b] = await Promise.allSettled([first, second]);
  if (a.status === 'rejected') throw a.reason;
  if (b.status === 'rejected') throw b.reason;
  return [a.value, b.value];
}

/** Nothing is away while local experts compute, so that a second micro-batch would only wait for the first. */
function microBatchesOf({ experts, microBatches }: Pick<RouterConfig, 'experts' | 'microBatches'>): number {
  return experts === 'local' ? 1 : microBatches;
}

function numPagesOf(config: RouterConfig, model: TextModel): number {
  if (config.numPages !== null) return config.numPages;
  // The layout of a page is native; a pool of one tells what it costs.
  const { pageBytes } = model.createKvPool(1);
  const pages = Math.floor(config.kvMemory / pageBytes);
  if (pages >= 1) return pages;
  throw fail('config_invalid', `a page takes ${pageBytes} bytes, --kv-memory is ${config.kvMemory}`, {
    field: 'kvMemory',
  });
}

/** States that the memory for snapshots holds; 0 for models without states. */
function snapshotsOf(config: RouterConfig, model: TextModel, kv: KvPool): number {
  if (config.prefixCache === 'off') return 0;
  // As above: a pool of one tells what a state costs.
  const { slotBytes } = model.createStatePool(1) ?? { slotBytes: 0 };
  if (slotBytes === 0) return 0;
  if (config.snapshotMemory === null) {
    return Math.max(LEAST_SNAPSHOTS, Math.floor((kv.numPages * kv.pageBytes) / SNAPSHOT_SHARE / slotBytes));
  }
  const count = Math.floor(config.snapshotMemory / slotBytes);
  if (count >= 1) return count;
  throw fail('config_invalid', `a state takes ${slotBytes} bytes, --snapshot-memory is ${config.snapshotMemory}`, {
    field: 'snapshotMemory',
  });
}

function contextOf(config: RouterConfig, model: ModelConfig, numPages: number, logger: Logger): number {
  const wanted = config.maxContext ?? model.maxPositionEmbeddings;
  if (config.maxContext !== null && config.maxContext > model.maxPositionEmbeddings) {
    const message = `the checkpoint allows ${model.maxPositionEmbeddings} positions`;
    throw fail('config_invalid', message, { field: 'maxContext' });
  }
  const room = numPages * PAGE_TOKENS;
  if (room < wanted) {
    logger.warn({ wanted, room, hint: errorInfo('out_of_pages').hint }, 'the KV cache bounds the context');
  }
  return Math.min(wanted, room);
}

/** Sequences of the largest micro-batch that a decode step can have. */
export function microBatchCapacity(
  config: Pick<RouterConfig, 'experts' | 'maxRunning' | 'microBatches' | 'microBatchMin'>,
): number {
  const microBatches = microBatchesOf(config);
  let most = 1;
  for (let count = 1; count <= config.maxRunning; count++) {
    most = Math.max(most, Math.ceil(count / numMicroBatches(count, microBatches, config.microBatchMin)));
  }
  return most;
}
