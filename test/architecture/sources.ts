import { globSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Root of the checkout. */
export const ROOT = resolve(fileURLToPath(new URL('../..', import.meta.url)));

export interface SourceFile {
  /** Path from the root. */
  path: string;
  text: string;
}

/** Files that match, without generated and installed ones. */
export function sources(patterns: string[]): SourceFile[] {
  return globSync(patterns, {
    cwd: ROOT,
    exclude: ['**/node_modules/**', 'native/build*/**', 'proto/gen/**', 'dist/**'],
  })
    .sort()
    .map((path) => ({ path, text: readFileSync(resolve(ROOT, path), 'utf8') }));
}

/** Package names and relative paths that a file imports or re-exports, type-only ones included. */
export function importsOf(text: string): string[] {
  const pattern =
    /(?:^|\n)\s*(?:import|export)\b[^'"`;]*?from\s*['"]([^'"]+)['"]|import\s*\(\s*['"]([^'"]+)['"]\s*\)|(?:^|\n)\s*import\s*['"]([^'"]+)['"]/g;
  return [...text.matchAll(pattern)].map((match) => match[1] ?? match[2] ?? match[3] ?? '');
}

/** Text of a TypeScript source without comments and string contents, for searches that must not hit prose. */
export function code(text: string): string {
  return text
    .replace(/\/\*[\s\S]*?\*\//g, '')
    .replace(/(^|[^:])\/\/.*$/gm, '$1')
    .replace(/'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"/g, "''");
}
