import { readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { HubFile } from './hub-client.ts';

/** Name of the manifest in the folder of a pulled model. */
export const MANIFEST_NAME = '.guildhall-pull.json';

const SCHEMA = 'guildhall.pull/1';

/** A file of the commit and what of it is here. */
export interface ManifestFile extends HubFile {
  /** whole: verified and in place; outline: header and samples only; absent: neither. */
  state: 'whole' | 'outline' | 'absent';
  /** Time of the last change of the verified file, milliseconds; 0 unless it is whole. */
  mtimeMs: number;
}

/** What a folder was pulled from. */
export interface Manifest {
  schema: string;
  repo: string;
  /** What was asked for, such as a branch. */
  revision: string;
  commit: string;
  /** Address of the hub, without credentials. */
  endpoint: string;
  /** True where the listing covers every file of the commit, not only those that a model is served from. */
  all: boolean;
  files: ManifestFile[];
}

/** A fresh manifest of a listing of which nothing is here yet. */
export function newManifest(facts: Omit<Manifest, 'schema' | 'files'>, files: readonly HubFile[]): Manifest {
  return { schema: SCHEMA, ...facts, files: files.map((file) => ({ ...file, state: 'absent', mtimeMs: 0 })) };
}

/** The manifest of a folder, or null where there is none that can be used. */
export function readManifest(dir: string): Manifest | null {
  try {
    const manifest = JSON.parse(readFileSync(join(dir, MANIFEST_NAME), 'utf8')) as Manifest;
    return manifest.schema === SCHEMA && Array.isArray(manifest.files) ? manifest : null;
  } catch {
    // Without it files are hashed again, which costs time and nothing else.
    return null;
  }
}

/** Writes the manifest, atomically. */
export function writeManifest(dir: string, manifest: Manifest): void {
  const path = join(dir, MANIFEST_NAME);
  writeFileSync(`${path}.tmp`, `${JSON.stringify(manifest, null, 1)}\n`);
  renameSync(`${path}.tmp`, path);
}

/** True where a file that was verified has not been touched since. */
export function isUntouched(dir: string, file: ManifestFile): boolean {
  if (file.state !== 'whole') return false;
  const stat = statSync(join(dir, file.path), { throwIfNoEntry: false });
  return stat !== undefined && stat.isFile() && stat.size === file.size && stat.mtimeMs === file.mtimeMs;
}
