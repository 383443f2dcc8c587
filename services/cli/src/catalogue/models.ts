import { join } from 'node:path';
import { fail, isGuildhallError } from '@guildhall/common';
import { loadModelConfig, type ModelConfig, parseModelConfig } from '@guildhall/model/weights';
import { type FoundModel, ModelStore } from '../hub/model-store.ts';
import { ROOT } from '../stack/state-dir.ts';
import { PUBLISHED } from './published.ts';

/** A model that can be planned for: its config, and what it is called. */
export interface KnownModel {
  name: string;
  config: ModelConfig;
  /** Folder of the checkpoint; null where only the published shape is known. */
  dir: string | null;
}

/** The checkpoint that ships. */
const BUNDLED = 'tiny';

/** Names that need no checkpoint: published shapes and the model that ships. */
export function knownNames(): string[] {
  return [BUNDLED, ...Object.keys(PUBLISHED)];
}

/** A model by its name in the catalogue. Null for a name that is not in it. */
export function knownModel(name: string): KnownModel | null {
  const key = name.toLowerCase();
  if (key === BUNDLED) {
    const dir = join(ROOT, 'models', BUNDLED);
    return { name: BUNDLED, config: loadModelConfig(dir), dir };
  }
  const root = Object.hasOwn(PUBLISHED, key) ? PUBLISHED[key] : undefined;
  if (root === undefined) return null;
  return { name: key, config: parseModelConfig(`the published config of ${key}`, root), dir: null };
}

/** A catalogue entry that must be there. @throws internal. */
export function mustKnow(name: string): KnownModel {
  const model = knownModel(name);
  if (model === null) throw fail('internal', `${name} is not in the catalogue`);
  return model;
}

/**
 * What `--model` names: a catalogue entry, also as `org/name`; a folder with a config.json; a model that was pulled.
 * @throws config_invalid naming what there is; checkpoint_invalid.
 */
export function findModel(model: string, env: Record<string, string | undefined>): KnownModel {
  const short = model.split('/').at(-1)?.split('@')[0] ?? model;
  const known = knownModel(short);
  const found = tryFind(model, env);
  if (found !== null)
    return { name: found.name ?? known?.name ?? short, config: loadModelConfig(found.dir), dir: found.dir };
  if (known !== null) return known;
  const names = knownNames().join(', ');
  throw fail(
    'config_invalid',
    `--model ${model} is no folder with a config.json, has not been pulled, and is none of ${names}`,
    { field: 'model' },
  );
}

function tryFind(model: string, env: Record<string, string | undefined>): FoundModel | null {
  try {
    return new ModelStore(env).find(model);
  } catch (err) {
    if (isGuildhallError(err) && err.code === 'checkpoint_not_found') return null;
    throw err;
  }
}
