import assert from 'node:assert/strict';
import { test } from 'node:test';
import { code, sources } from './sources.ts';

const services = sources(['services/*/src/**/*.ts']).filter(({ path }) => !/\.test\.ts$|\/testing\//.test(path));

function offenders(files: { path: string; text: string }[], pattern: RegExp): string[] {
  return files.flatMap(({ path, text }) =>
    code(text)
      .split('\n')
      .flatMap((line) => (pattern.test(line) ? [`${path}: ${line.trim()}`] : [])),
  );
}

test('errors come from the registry', () => {
  assert.deepEqual(offenders(services, /throw new (Error|TypeError|RangeError)\(/), []);
});

test('time comes from the injected clock', () => {
  const files = services.filter(({ path }) => path !== 'services/common/src/clock.ts');
  assert.deepEqual(offenders(files, /\bDate\.now\(|(?<![.\w#])set(Timeout|Interval)\((?!ms: number)/), []);
});

test('Redis keys are named in one file only', () => {
  const files = services.filter(({ path }) => !path.startsWith('services/common/src/redis/keys.ts'));
  assert.deepEqual(
    files.filter(({ text }) => /['"`]gh:/.test(text)).map(({ path }) => path),
    [],
  );
});

test('native code never ends the process and does no file or network I/O', () => {
  const native = sources(['native/{include,src,binding}/**/*.{h,cpp,cc,inl}']);
  assert.ok(native.length > 0);
  assert.deepEqual(offenders(native, /\b(exit|_exit|abort|quick_exit|terminate)\s*\(/), []);
  assert.deepEqual(offenders(native, /\b(fopen|ifstream|ofstream|socket|connect|open)\s*\(/), []);
});

test('N-API is used in the binding only', () => {
  const native = sources(['native/{include,src}/**/*.{h,cpp,inl}']);
  assert.deepEqual(
    native.filter(({ text }) => /#include [<"]napi/.test(text)).map(({ path }) => path),
    [],
  );
});

test('sources stay readable in size', () => {
  const files = sources([
    'services/*/src/**/*.ts',
    'native/{include,src,binding,ts}/**/*.{h,cpp,cc,inl,ts}',
    'scripts/*.ts',
  ]);
  const long = files.filter(({ path, text }) => !path.endsWith('.test.ts') && text.split('\n').length > 600);
  assert.deepEqual(
    long.map(({ path, text }) => `${path}: ${text.split('\n').length} lines`),
    [],
  );
});

test('file names are kebab-case', () => {
  const files = sources(['services/*/src/**/*.ts', 'test/**/*.ts', 'scripts/*.ts']);
  const wrong = files
    .map(({ path }) => path)
    .filter((path) => !/^[a-z0-9-]+(\.test)?\.ts$/.test(path.split('/').pop() ?? ''));
  assert.deepEqual(wrong, []);
});

test('every Lua script says what it takes and returns', () => {
  const scripts = sources(['services/common/src/redis/scripts/*.lua']);
  assert.ok(scripts.length > 0);
  for (const { path, text } of scripts) {
    const declared = Number(/-(\d+)\.lua$/.exec(path)?.[1]);
    const used = new Set([...text.replace(/--.*$/gm, '').matchAll(/KEYS\[(\d+)\]/g)].map((match) => Number(match[1])));
    assert.equal(used.size === 0 ? 0 : Math.max(...used), declared, `${path}: keys used and number in its name`);
    for (const word of ['KEYS', 'ARGV', 'Returns'])
      assert.match(text, new RegExp(`--.*${word}`, 'i'), `${path} documents ${word}`);
  }
});
