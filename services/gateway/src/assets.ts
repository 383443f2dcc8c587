import { basename, resolve } from 'node:path';
import { isGuildhallError } from '@guildhall/common';
import {
  ChatTemplate,
  type GenerationConfig,
  loadGenerationConfig,
  loadModelConfig,
  Tokenizer,
} from '@guildhall/model/tokenizer';

/** What the gateway reads of a checkpoint: no weights. */
export interface Assets {
  /** Name of the checkpoint's directory. */
  name: string;
  tokenizer: Tokenizer;
  /** Null when the checkpoint has no chat template: chat requests are refused. */
  template: ChatTemplate | null;
  generation: GenerationConfig;
  /** Longest context that the model was made for, in tokens. */
  maxPositions: number;
}

/** Reads tokenizer, template and limits of a checkpoint. Throws `checkpoint_not_found` or `checkpoint_invalid`. */
export function loadAssets(dir: string): Assets {
  const tokenizer = Tokenizer.load(dir);
  return {
    name: basename(resolve(dir)),
    tokenizer,
    template: loadTemplate(dir),
    generation: loadGenerationConfig(dir, tokenizer),
    maxPositions: loadModelConfig(dir).maxPositionEmbeddings,
  };
}

function loadTemplate(dir: string): ChatTemplate | null {
  try {
    return ChatTemplate.load(dir);
  } catch (err) {
    if (isGuildhallError(err) && err.code === 'checkpoint_not_found') return null;
    throw err;
  }
}
