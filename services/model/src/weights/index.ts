// Entry '@guildhall/model/weights': checkpoints without the native addon.
export {
  loadModelConfig,
  numFullLayers,
  numLinearLayers,
  parseModelConfig,
  type AttentionConfig,
  type LayerType,
  type LinearAttentionConfig,
  type ModelConfig,
  type ModelFamily,
  type MoeConfig,
  type NormConfig,
  type RopeConfig,
  type VisionConfig,
} from '../config.ts';
export {
  KERNEL_VERSIONS,
  KV_DTYPES,
  KV_KERNEL_VERSIONS,
  kvFormatOf,
  numericsId,
  rowFormatOf,
  WEIGHT_FORMATS,
  type KvDtype,
  type NumericsClass,
} from '../numerics.ts';
export {
  Checkpoint,
  type ByteReader,
  type CheckpointOptions,
  type ReadRecord,
  type TensorInfo,
  type TensorRange,
} from './checkpoint.ts';
export { CheckpointFiles, isSmallFileName, MAX_SMALL_FILE_BYTES, type SmallFile } from './checkpoint-files.ts';
export { ExpertBytes, rangesSize } from './expert-bytes.ts';
export { EXPERTS_DIR, ExpertStore, type ExpertStoreOptions } from './expert-store.ts';
export {
  expertBytes,
  expertRanges,
  expertSources,
  loadableExperts,
  packedBytes,
  type ExpertSources,
} from './experts.ts';
export {
  footprintOf,
  layerBytes,
  matrixBytes,
  parametersOf,
  stepBufferBytes,
  type LayerMatrices,
  type ModelFootprint,
  type PackedMatrix,
  type ParameterCounts,
  type StepLimits,
} from './footprint.ts';
export { sha256Hex } from './sha256.ts';
export { SAMPLE_BYTES, sampleOffsets } from './safetensors/samples.ts';
export type { MapFile } from './safetensors/file.ts';
export { OUTLINE_SUFFIX, writeOutline, type Outline, type Piece } from './safetensors/outline.ts';
export { selectTensors, type WeightSelection } from './selection.ts';
export { QUANTISER_VERSION, WeightReader, type Quantise, type WeightReaderOptions } from './reader.ts';
