import { lstatSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

/** Bytes of a tree, of the paths in it that are counted apart, and of the folders directly under a few of its paths. */
export interface TreeSize {
  bytes: number;
  excludedBytes: number;
}

/** Counts the bytes of files under `root`; `apart` lists paths of files in it that are also counted by themselves. */
export function measure(root: string, apart: readonly string[]): TreeSize {
  const files = readdirSync(root, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const sizeOf = (path: string): number => lstatSync(path).size;
  return {
    bytes: files.reduce((sum, entry) => sum + sizeOf(join(entry.parentPath, entry.name)), 0),
    excludedBytes: apart.reduce((sum, path) => sum + sizeOf(join(root, path)), 0),
  };
}
