import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fail } from '@guildhall/common';
import { describe, fileError, isRecord, readOptionalJsonObject } from '../json-file.ts';
import { SafetensorsFile, type MapFile } from './safetensors/file.ts';
import { tensorError, type TensorEntry } from './safetensors/header.ts';
import { OUTLINE_SUFFIX } from './safetensors/outline.ts';

/** Where a tensor lies. */
export interface TensorLocation {
  file: SafetensorsFile;
  entry: TensorEntry;
}

/** All tensors of a checkpoint directory. */
export interface TensorTable {
  files: SafetensorsFile[];
  tensors: Map<string, TensorLocation>;
  notices: string[];
}

const INDEX = 'model.safetensors.index.json';
const MAX_INDEX_BYTES = 256 * 1024 * 1024;
const MAX_FILES = 10_000;
const SHARD = /^(.*)-(\d{5})-of-(\d{5})\.safetensors$/;

/**
 * Opens every safetensors file of a checkpoint and checks the index against the headers.
 * @throws checkpoint_not_found, checkpoint_invalid (missing shard, tensor in another shard than the index says, one
 * name in two shards, damaged files).
 */
export function openTensorTable(dir: string, mapFile: MapFile | null): TensorTable {
  const index = readIndex(dir);
  const names = index === null ? unindexedFiles(dir) : [...new Set(index.values())].sort();
  const files = names.map((name) => SafetensorsFile.open(join(dir, name), mapFile));
  const tensors = new Map<string, TensorLocation>();
  for (const file of files) {
    for (const entry of file.entries) {
      const other = tensors.get(entry.name);
      if (other !== undefined) throw tensorError(file.path, entry.name, `is also in ${other.file.name}`);
      tensors.set(entry.name, { file, entry });
    }
  }
  const notices = index === null ? [] : checkIndex(dir, index, tensors);
  return { files, tensors, notices };
}

function readIndex(dir: string): Map<string, string> | null {
  const path = join(dir, INDEX);
  const root = readOptionalJsonObject(dir, INDEX, MAX_INDEX_BYTES);
  if (root === null) return null;
  const map = root['weight_map'];
  if (!isRecord(map))
    throw fail('checkpoint_invalid', `${path}: weight_map: found ${describe(map)}, expected an object`);
  const index = new Map<string, string>();
  for (const [tensor, file] of Object.entries(map)) {
    if (typeof file !== 'string' || !isPlainFileName(file)) {
      throw tensorError(path, tensor, `found ${describe(file)}, expected the name of a .safetensors file beside it`);
    }
    index.set(tensor, file);
  }
  if (index.size === 0) throw fail('checkpoint_invalid', `${path}: weight_map is empty`);
  if (new Set(index.values()).size > MAX_FILES)
    throw fail('checkpoint_invalid', `${path}: more than ${MAX_FILES} files`);
  return index;
}

function isPlainFileName(name: string): boolean {
  return name.endsWith('.safetensors') && !/[/\\\0]/.test(name) && !name.startsWith('.');
}

function checkIndex(dir: string, index: Map<string, string>, tensors: Map<string, TensorLocation>): string[] {
  for (const [name, file] of index) {
    const found = tensors.get(name);
    if (found === undefined) throw tensorError(join(dir, file), name, `${INDEX} says it is here, but it is not`);
    if (found.file.name !== file) throw tensorError(found.file.path, name, `${INDEX} says it is in ${file}`);
  }
  const extra = [...tensors.keys()].filter((name) => !index.has(name));
  return extra.length === 0 ? [] : [`${extra.length} tensors are not in ${INDEX}: ${listNames(extra)}`];
}

/** Files of a checkpoint without an index: the single file, or all shards by their names. */
function unindexedFiles(dir: string): string[] {
  let names: string[];
  try {
    const files = readdirSync(dir).map((name) =>
      name.endsWith(OUTLINE_SUFFIX) ? name.slice(0, -OUTLINE_SUFFIX.length) : name,
    );
    names = [...new Set(files)].filter((name) => name.endsWith('.safetensors')).sort();
  } catch (err) {
    throw fileError(dir, err);
  }
  if (names.includes('model.safetensors')) return ['model.safetensors'];
  if (names.length === 0) throw fail('checkpoint_not_found', `${dir}: no safetensors file`);
  const present = new Set(names);
  for (const name of names) {
    const [, stem, , count] = SHARD.exec(name) ?? [];
    for (let i = 1; i <= Number(count ?? 0); i++) {
      const shard = `${stem}-${String(i).padStart(5, '0')}-of-${count}.safetensors`;
      if (!present.has(shard)) throw fail('checkpoint_not_found', `${join(dir, shard)}: no such file`);
    }
  }
  return names;
}

/** A few names for a message. */
export function listNames(names: readonly string[]): string {
  const shown = names.slice(0, 3).map((name) => (name.length > 100 ? `${name.slice(0, 97)}...` : name));
  return shown.join(', ') + (names.length > shown.length ? ', ...' : '');
}
