import { fail } from '@guildhall/common';
import type { ModelConfig } from '../config.ts';

/** How a layer's routed experts are stored: `[E, 2I, H]` and `[E, H, I]`, or three tensors for each expert. */
export type ExpertStorage = 'fused' | 'separate';
/** How a DeltaNet layer's input projections are stored: qkv, z, b, a, or qkvz and ba grouped by key head. */
export type ProjectionStorage = 'split' | 'grouped';

/** Names and storage of one layer. */
export interface LayerLayout {
  /** `<model prefix>layers.<i>.` */
  prefix: string;
  experts: ExpertStorage;
  /** Null in full-attention layers. */
  projections: ProjectionStorage | null;
}

/** Which of the family's namings and storages a checkpoint uses, found by looking at its names. */
export interface ModelLayout {
  /** What stands before `layers.` */
  prefix: string;
  embedding: string;
  finalNorm: string;
  /** The embedding's name where the two are tied. */
  head: string;
  layers: LayerLayout[];
}

// Full models, text-only exports, and exports whose text model was wrapped once more.
const PREFIXES = ['model.language_model.', 'model.', 'language_model.model.'];
const HEADS = ['lm_head.weight', 'language_model.lm_head.weight', 'model.language_model.lm_head.weight'];

/**
 * Finds the layout of a checkpoint's names.
 * @param where file or directory for messages.
 * @throws checkpoint_invalid naming the tensor that is missing.
 */
export function findLayout(where: string, has: (name: string) => boolean, config: ModelConfig): ModelLayout {
  const prefix = PREFIXES.find((candidate) => has(`${candidate}embed_tokens.weight`));
  if (prefix === undefined) {
    const wanted = PREFIXES.map((candidate) => `${candidate}embed_tokens.weight`).join(' or ');
    throw fail('checkpoint_invalid', `${where}: no embedding: expected a tensor ${wanted}`);
  }
  const embedding = `${prefix}embed_tokens.weight`;
  const layers = config.layerTypes.map((type, i) => {
    const layer = `${prefix}layers.${i}.`;
    const grouped = has(`${layer}linear_attn.in_proj_qkvz.weight`);
    return {
      prefix: layer,
      experts: has(`${layer}mlp.experts.gate_up_proj`) ? ('fused' as const) : ('separate' as const),
      projections: type === 'full_attention' ? null : grouped ? ('grouped' as const) : ('split' as const),
    };
  });
  return {
    prefix,
    embedding,
    finalNorm: `${prefix}norm.weight`,
    head: findHead(where, has, config, embedding),
    layers,
  };
}

function findHead(where: string, has: (name: string) => boolean, config: ModelConfig, embedding: string): string {
  if (config.tieWordEmbeddings === true) return embedding;
  const head = HEADS.find(has);
  if (head !== undefined) return head;
  if (config.tieWordEmbeddings === null) return embedding;
  throw fail(
    'checkpoint_invalid',
    `${where}: tensor lm_head.weight: missing, expected [${config.vocab}, ${config.hidden}] since the embeddings are not tied`,
    { field: 'lm_head.weight' },
  );
}
