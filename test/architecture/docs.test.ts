import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ROOT, sources } from './sources.ts';

/** Paths in backticks that look like files of this repository. */
function namedFiles(text: string): string[] {
  return [...text.matchAll(/`((?:[\w.@-]+\/)+[\w.@-]+\.(?:ts|cpp|h|cc|proto|md|json|lua|sh|py))`/g)].map(
    (match) => match[1] as string,
  );
}

test('every file that the documents name exists', () => {
  const documents = sources(['*.md', 'docs/**/*.md']);
  assert.ok(documents.some(({ path }) => path === 'docs/architecture.md'));
  const missing = documents.flatMap(({ path, text }) =>
    namedFiles(text).flatMap((name) => (existsSync(join(ROOT, name)) ? [] : [`${path}: ${name}`])),
  );
  assert.deepEqual(missing, []);
});

test('the token path names a file and a symbol that it exports for each step', () => {
  const text = readFileSync(join(ROOT, 'docs/architecture.md'), 'utf8');
  const rows = [...text.matchAll(/^\| (\d+) +\| [^|]* \| `([^`]+)` +\| `([^`]+)` +\|/gm)];
  assert.ok(rows.length >= 12, `found ${rows.length} rows`);
  for (const [, step, file, symbol] of rows) {
    const source = readFileSync(join(ROOT, file as string), 'utf8');
    assert.match(source, new RegExp(`\\b${symbol}\\b`), `step ${step}: ${file} has ${symbol}`);
  }
});

test('links between documents lead somewhere', () => {
  const broken = sources(['*.md', 'docs/**/*.md', 'models/**/*.md', 'test/vectors/*.md']).flatMap(({ path, text }) =>
    [...text.matchAll(/\]\((?!https?:|#|mailto:)([^)#\s]+)/g)].flatMap((match) =>
      existsSync(join(ROOT, path, '..', match[1] as string)) ? [] : [`${path}: ${match[1]}`],
    ),
  );
  assert.deepEqual(broken, []);
});

test('every case of bad input has the test that the document names', () => {
  const text = readFileSync(join(ROOT, 'docs/reliability.md'), 'utf8');
  const [, section = ''] = text.split('## Bad input');
  const rows = [...section.matchAll(/^\| [^|]+ \| `([^`]+)` +\| ([^|]+?) +\|$/gm)];
  assert.ok(rows.length >= 15, `found ${rows.length} rows`);
  for (const [, file, title] of rows) {
    const source = readFileSync(join(ROOT, file as string), 'utf8');
    assert.ok(
      ["'", '`', '"'].some((quote) => source.includes(`test(${quote}${title}`)),
      `${file} has a test "${title}…"`,
    );
  }
});
