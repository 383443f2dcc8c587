import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { fail } from '@guildhall/common';
import { fileError } from '../json-file.ts';
import type { Checkpoint } from './checkpoint.ts';
import { encodeOutline, OUTLINE_SUFFIX } from './safetensors/outline.ts';
import { sha256Hex } from './sha256.ts';

/** Files of a checkpoint besides its weights; those that are there are what a folder needs to be opened or served. */
const SMALL_FILES = [
  'config.json',
  'generation_config.json',
  'model.safetensors.index.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'vocab.json',
  'merges.txt',
  'chat_template.jinja',
  'chat_template.json',
  'preprocessor_config.json',
  'video_preprocessor_config.json',
] as const;

/** Largest of those files and outlines that is handed on. */
export const MAX_SMALL_FILE_BYTES = 256 << 20;

/** A file that makes a checkpoint known without its weights. */
export interface SmallFile {
  name: string;
  size: number;
  /** Hex digits. */
  sha256: string;
}

/** True for the names that a checkpoint's small files and outlines may have: never a path, never hidden. */
export function isSmallFileName(name: string): boolean {
  if (SMALL_FILES.some((small) => small === name)) return true;
  return /^[A-Za-z0-9][\w.-]{0,200}\.safetensors\.outline$/.test(name);
}

/**
 * A checkpoint's small files and the outlines of its safetensors files, as another machine needs them to know the
 * checkpoint. Outlines of files that are here are made when they are asked for.
 */
export class CheckpointFiles {
  readonly #checkpoint: Checkpoint;
  #known: Promise<SmallFile[]> | null = null;

  constructor(checkpoint: Checkpoint) {
    this.#checkpoint = checkpoint;
  }

  /** All of them, config.json first; found out once. @throws checkpoint_not_found, checkpoint_invalid. */
  list(): Promise<SmallFile[]> {
    this.#known ??= this.#list().catch((err: unknown) => {
      this.#known = null;
      throw err;
    });
    return this.#known;
  }

  /** The bytes of one. @throws not_found for other names; checkpoint_not_found, checkpoint_invalid. */
  async read(name: string): Promise<Buffer> {
    if (name.endsWith(OUTLINE_SUFFIX)) {
      const file = this.#checkpoint.files.find((candidate) => candidate.name + OUTLINE_SUFFIX === name);
      if (file !== undefined) return encodeOutline(await file.outline());
    }
    if (!SMALL_FILES.some((small) => small === name)) throw fail('not_found', 'the checkpoint has no such file');
    const path = join(this.#checkpoint.dir, name);
    try {
      if ((await stat(path)).size > MAX_SMALL_FILE_BYTES) throw fail('checkpoint_invalid', `${path}: it is too large`);
      return await readFile(path);
    } catch (err) {
      throw err instanceof Error && 'errno' in err ? fileError(path, err) : err;
    }
  }

  async #list(): Promise<SmallFile[]> {
    const files: SmallFile[] = [];
    const outlines = this.#checkpoint.files.map((file) => file.name + OUTLINE_SUFFIX);
    for (const name of [...SMALL_FILES, ...outlines.filter(isSmallFileName)]) {
      const here = outlines.includes(name) || (await isFile(join(this.#checkpoint.dir, name)));
      if (!here) continue;
      const bytes = await this.read(name);
      files.push({ name, size: bytes.length, sha256: await sha256Hex(bytes) });
      await setImmediate();
    }
    return files;
  }
}

async function isFile(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isFile();
  } catch {
    return false;
  }
}
