import { type Dirent, lstatSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

/** Everything under a folder, without following links. */
export function* walk(root: string): Generator<Dirent> {
  for (const entry of readdirSync(root, { withFileTypes: true })) {
    yield entry;
    if (entry.isDirectory()) yield* walk(join(root, entry.name));
  }
}

/** Bytes of the files of a tree, and of those that are counted apart. */
export interface TreeSize {
  bytes: number;
  apartBytes: number;
}

/** Counts the bytes of files under `root`; `apart` lists paths of files in it that are also counted by themselves. */
export function measure(root: string, apart: readonly string[]): TreeSize {
  const sizeOf = (path: string): number => lstatSync(path).size;
  let bytes = 0;
  for (const entry of walk(root)) if (entry.isFile()) bytes += sizeOf(join(entry.parentPath, entry.name));
  return { bytes, apartBytes: apart.reduce((sum, path) => sum + sizeOf(join(root, path)), 0) };
}
