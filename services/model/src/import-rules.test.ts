import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';

/** Modules that a module loads when it runs: `import type` and `export type` are erased. */
function runtimeImports(path: string): string[] {
  const source = readFileSync(path, 'utf8');
  const statements = source.matchAll(
    /^(?:import|export)\s+(?!type\b)[^;]*?from\s+'([^']+)'|^import\s+'([^']+)'|\bimport\('([^']+)'\)/gm,
  );
  return Array.from(statements, (match) => match[1] ?? match[2] ?? match[3] ?? '');
}

/** Every package that an entry reaches, through however many files. */
function reachedPackages(entry: string): Set<string> {
  const packages = new Set<string>();
  const seen = new Set<string>();
  const todo = [join(import.meta.dirname, entry)];
  for (let path = todo.pop(); path !== undefined; path = todo.pop()) {
    if (seen.has(path)) continue;
    seen.add(path);
    for (const specifier of runtimeImports(path)) {
      if (specifier.startsWith('.')) todo.push(join(dirname(path), specifier));
      else packages.add(specifier);
    }
  }
  return packages;
}

test('the weights and tokenizer entries never reach the native addon or each other’s engines', () => {
  const weights = reachedPackages('weights/index.ts');
  assert.deepEqual([...weights].filter((name) => !name.startsWith('node:')).sort(), ['@guildhall/common']);
  const tokenizer = reachedPackages('tokenizer/index.ts');
  assert.deepEqual([...tokenizer].filter((name) => !name.startsWith('node:')).sort(), [
    '@guildhall/common',
    '@huggingface/jinja',
    'tokenizers',
  ]);
});

test('the main entry does reach the native addon: the walk above can see it', () => {
  assert.ok(reachedPackages('index.ts').has('@guildhall/native'));
});
