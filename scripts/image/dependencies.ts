import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { LEFT_OUT_PACKAGES, LEFT_OUT_WORKSPACES } from './layout.ts';

interface LockEntry {
  name?: string;
  version?: string;
  license?: string;
  link?: boolean;
  resolved?: string;
  dependencies?: Record<string, string>;
  optionalDependencies?: Record<string, string>;
}

/** An installed npm package that the image needs. */
export interface ShippedPackage {
  name: string;
  version: string;
  license: string;
  /** Folder below the root, such as `node_modules/a/node_modules/b`. */
  path: string;
}

/**
 * What the services load at run time: the production dependencies of the given workspaces by package-lock.json,
 * followed the way Node resolves them. Optional ones that are not installed here are for other platforms.
 * @param workspaces folders of workspaces below the root.
 * @throws Error when the lock file misses a package.
 */
export function shippedPackages(root: string, workspaces: readonly string[]): ShippedPackage[] {
  const lock = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, LockEntry>;
  };
  const found = new Map<string, ShippedPackage>();
  const visited = new Set<string>();
  const waiting = [...workspaces];
  for (let path = waiting.pop(); path !== undefined; path = waiting.pop()) {
    if (visited.has(path)) continue;
    visited.add(path);
    const entry = lock.packages[path];
    if (entry === undefined) throw new Error(`package-lock.json has no ${path}; run npm install`);
    if (entry.link === true) {
      waiting.push(entry.resolved ?? '');
      continue;
    }
    if (path.includes('node_modules/')) {
      if (!existsSync(join(root, path))) continue;
      const { version = '', license = 'UNKNOWN' } = entry;
      found.set(path, { name: nameOf(path), version, license, path });
    }
    for (const name of Object.keys({ ...entry.dependencies, ...entry.optionalDependencies })) {
      if (isLeftOut(name)) continue;
      const target = resolveFrom(lock.packages, path, name);
      if (target !== null) waiting.push(target);
      else if (entry.optionalDependencies?.[name] === undefined)
        throw new Error(`package-lock.json has no ${name}, which ${path} needs; run npm install`);
    }
  }
  return [...found.values()].toSorted((a, b) => (a.path < b.path ? -1 : 1));
}

function isLeftOut(name: string): boolean {
  return LEFT_OUT_WORKSPACES.has(name) || LEFT_OUT_PACKAGES.some((rule) => rule.name.test(name));
}

function nameOf(path: string): string {
  return path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length);
}

/** The entry that `require(name)` in the package at `path` finds: the nearest node_modules above it. */
function resolveFrom(packages: Record<string, LockEntry>, path: string, name: string): string | null {
  for (let folder: string | null = path; folder !== null; folder = parentOf(folder)) {
    const candidate = folder === '' ? `node_modules/${name}` : `${folder}/node_modules/${name}`;
    if (packages[candidate] !== undefined) return candidate;
  }
  return null;
}

function parentOf(folder: string): string | null {
  if (folder === '') return null;
  const at = folder.lastIndexOf('/node_modules/');
  return at === -1 ? '' : folder.slice(0, at);
}
