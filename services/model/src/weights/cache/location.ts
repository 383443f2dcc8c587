import { accessSync, constants, existsSync, mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { guildhallHome } from '@guildhall/common';

/** Folder beside the checkpoint's files that holds caches, one folder each. */
export const CACHE_DIR = '.guildhall-weights';

/** Where a cache goes. */
export interface CacheLocation {
  /** Folder of the caches. */
  root: string;
  /** True where everything in it belongs to this checkpoint. */
  own: boolean;
}

/**
 * Where the caches of a checkpoint are: beside its files, in GUILDHALL_HOME where those cannot be written, or where
 * the user says. The folder is made.
 * @param option `auto`, `off`, or a folder.
 * @returns null where there is to be none, or nowhere to write.
 */
export function cacheLocation(
  option: string,
  modelDir: string,
  env: Record<string, string | undefined>,
): CacheLocation | null {
  if (option === 'off') return null;
  if (option !== 'auto') return made({ root: resolve(option), own: false });
  const beside = { root: join(modelDir, CACHE_DIR), own: true };
  return made(beside) ?? made({ root: join(guildhallHome(env), 'cache', 'weights'), own: false });
}

function made(location: CacheLocation): CacheLocation | null {
  try {
    if (!existsSync(location.root)) mkdirSync(location.root, { recursive: true });
    accessSync(location.root, constants.W_OK);
    return location;
  } catch {
    return null;
  }
}
