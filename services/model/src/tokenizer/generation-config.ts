import { join } from 'node:path';
import { FieldReader } from '../config/fields.ts';
import { isRecord, readOptionalJsonObject } from '../json-file.ts';
import { Tokenizer } from './tokenizer.ts';

const MAX_BYTES = 4 * 1024 * 1024;
const MAX_TOKENIZER_CONFIG_BYTES = 64 * 1024 * 1024;

/** What a checkpoint says about generating. Null where it says nothing. */
export interface GenerationConfig {
  /** Ids that end an answer. */
  eosIds: number[];
  temperature: number | null;
  topK: number | null;
  topP: number | null;
  minP: number | null;
  repetitionPenalty: number | null;
}

/**
 * Reads generation_config.json; a missing file leaves the sampling fields null. The stop ids are the union of those of
 * generation_config.json, of config.json (top level and text config) and of the tokenizer's `eos_token`: a chat turn
 * and a plain text end with different tokens, and no single file names both.
 * @throws checkpoint_invalid naming file, field, found and expected.
 */
export function loadGenerationConfig(dir: string, tokenizer: Tokenizer | null = null): GenerationConfig {
  const root = readOptionalJsonObject(dir, 'generation_config.json', MAX_BYTES) ?? {};
  const fields = new FieldReader(join(dir, 'generation_config.json'), '', root);
  const eosIds = new Set([...fields.ids('eos_token_id'), ...configEosIds(dir), ...tokenizerEosIds(dir, tokenizer)]);
  return {
    eosIds: [...eosIds],
    temperature: fields.optionalNumber('temperature', { min: 0, max: 100 }),
    topK: fields.optionalInt('top_k', { min: 0, max: 2 ** 31 - 1 }),
    topP: fields.optionalNumber('top_p', { min: 0, max: 1 }),
    minP: fields.optionalNumber('min_p', { min: 0, max: 1 }),
    repetitionPenalty: fields.optionalNumber('repetition_penalty', { min: 0.01, max: 100 }),
  };
}

function configEosIds(dir: string): number[] {
  const root = readOptionalJsonObject(dir, 'config.json', MAX_BYTES);
  if (root === null) return [];
  const top = new FieldReader(join(dir, 'config.json'), '', root);
  return [...top.ids('eos_token_id'), ...(top.child('text_config')?.ids('eos_token_id') ?? [])];
}

function tokenizerEosIds(dir: string, tokenizer: Tokenizer | null): number[] {
  const config = readOptionalJsonObject(dir, 'tokenizer_config.json', MAX_TOKENIZER_CONFIG_BYTES);
  const eos = isRecord(config?.['eos_token']) ? config['eos_token']['content'] : config?.['eos_token'];
  if (typeof eos !== 'string') return [];
  const id = (tokenizer ?? Tokenizer.load(dir)).tokenToId(eos);
  return id === null ? [] : [id];
}
