import assert from 'node:assert/strict';
import { dirname, join, normalize } from 'node:path';
import { test } from 'node:test';
import { importsOf, sources } from './sources.ts';

/** What each package may import of ours, and what it may not import of others (DESIGN: allowed imports). */
const RULES: Record<string, { own: string[]; forbidden: string[] }> = {
  proto: { own: [], forbidden: [] },
  native: { own: [], forbidden: ['ioredis', '@grpc/grpc-js', 'fastify'] },
  'services/common': { own: [], forbidden: ['fastify', '@kubernetes/client-node'] },
  'services/model': {
    own: ['@guildhall/common', '@guildhall/native'],
    forbidden: ['ioredis', '@grpc/grpc-js', 'fastify', '@kubernetes/client-node'],
  },
  'services/gateway': {
    own: ['@guildhall/proto', '@guildhall/common', '@guildhall/model/tokenizer'],
    forbidden: ['ioredis', '@kubernetes/client-node'],
  },
  'services/router': {
    own: ['@guildhall/proto', '@guildhall/common', '@guildhall/model', '@guildhall/native'],
    forbidden: ['fastify', '@kubernetes/client-node'],
  },
  'services/expert': {
    own: ['@guildhall/proto', '@guildhall/common', '@guildhall/native', '@guildhall/model/weights'],
    forbidden: ['fastify', '@kubernetes/client-node'],
  },
  'services/batch': {
    own: ['@guildhall/proto', '@guildhall/common'],
    forbidden: ['fastify', '@kubernetes/client-node'],
  },
  'services/controller': { own: ['@guildhall/proto', '@guildhall/common'], forbidden: ['fastify'] },
};

function packageOf(path: string): string | null {
  return Object.keys(RULES).find((name) => path.startsWith(`${name}/`)) ?? null;
}

function isTest(path: string): boolean {
  return /\.test\.ts$|\/testing\/|\/test\//.test(path);
}

function allowed(name: string, specifier: string): boolean {
  const rule = RULES[name];
  if (rule === undefined) return true;
  if (!specifier.startsWith('@guildhall/'))
    return !rule.forbidden.some((bad) => specifier === bad || specifier.startsWith(`${bad}/`));
  const whole = rule.own.some((own) => specifier === own);
  // An entry of a package that may be imported whole.
  const entry = rule.own.some((own) => own.split('/').length === 2 && specifier.startsWith(`${own}/`));
  return whole || entry;
}

test('packages import only what they may', () => {
  const wrong: string[] = [];
  for (const { path, text } of sources(['proto/src/**/*.ts', 'native/ts/**/*.ts', 'services/*/src/**/*.ts'])) {
    const name = packageOf(path);
    if (name === null || isTest(path)) continue;
    for (const specifier of importsOf(text)) if (!allowed(name, specifier)) wrong.push(`${path} imports ${specifier}`);
  }
  assert.deepEqual(wrong, []);
});

test('no relative import leaves its package', () => {
  const wrong: string[] = [];
  for (const { path, text } of sources(['services/*/src/**/*.ts', 'native/ts/**/*.ts'])) {
    const home = path
      .split('/')
      .slice(0, path.startsWith('services/') ? 2 : 1)
      .join('/');
    for (const specifier of importsOf(text).filter((name) => name.startsWith('.'))) {
      const target = normalize(join(dirname(path), specifier));
      if (isTest(path)) continue;
      if (!target.startsWith(`${home}/`)) wrong.push(`${path} imports ${specifier}`);
      if (!specifier.endsWith('.ts')) wrong.push(`${path} imports ${specifier} without .ts`);
    }
  }
  assert.deepEqual(wrong, []);
});

/** Files reachable from an entry through relative imports and our packages' entries. */
function reach(entry: string): Set<string> {
  const files = new Map(sources(['services/*/src/**/*.ts', 'native/ts/**/*.ts']).map((file) => [file.path, file.text]));
  const seen = new Set<string>();
  const queue = [entry];
  for (let path = queue.pop(); path !== undefined; path = queue.pop()) {
    if (seen.has(path)) continue;
    seen.add(path);
    const text = files.get(path);
    assert.ok(text !== undefined, `${path} exists`);
    for (const specifier of importsOf(text)) {
      if (specifier.startsWith('.')) queue.push(normalize(join(dirname(path), specifier)));
      if (specifier === '@guildhall/common') queue.push('services/common/src/index.ts');
      if (specifier.startsWith('@guildhall/native')) seen.add(specifier);
    }
  }
  return seen;
}

test('tokenizer and weights can be used without the native addon', () => {
  for (const entry of ['tokenizer', 'weights']) {
    const reached = [...reach(`services/model/src/${entry}/index.ts`)];
    // Type-only imports vanish when Node strips types; a value import would load the addon.
    const native = reached.filter((path) => path.startsWith('@guildhall/native') || path.startsWith('native/'));
    const offenders = native.length === 0 ? [] : valueImportsOfNative(reached);
    assert.deepEqual(offenders, [], `${entry} reaches native`);
  }
});

function valueImportsOfNative(paths: string[]): string[] {
  const texts = new Map(sources(['services/*/src/**/*.ts']).map((file) => [file.path, file.text]));
  return paths.filter((path) => /(?:^|\n)import (?!type)[^;]*@guildhall\/native/.test(texts.get(path) ?? ''));
}
