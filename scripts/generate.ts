/**
 * Writes what is generated: protobuf code, docs/errors.md, docs/config.md, docs/metrics.md, the conformance table of docs/api.md,
 * Grafana's dashboards, and the chart's schema, facts and README.
 * With `--check` it writes nothing and fails when something differs.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, globSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { format, resolveConfig } from 'prettier';
import { dashboards } from '../deploy/monitoring/index.ts';
import { chartFiles } from './chart/index.ts';
import { CONFORMANCE_FILE, type ConformanceRow, withConformance } from './conformance.ts';
import { configDocument, errorsDocument, metricsDocument } from './documents.ts';

const ROOT = resolve(fileURLToPath(new URL('..', import.meta.url)));
const check = process.argv.includes('--check');
const differing: string[] = [];

function put(path: string, content: string): void {
  const file = join(ROOT, path);
  if (existsSync(file) && readFileSync(file, 'utf8') === content) return;
  if (check) differing.push(path);
  else writeFileSync(file, content);
}

function generateProto(): void {
  const out = mkdtempSync(join(tmpdir(), 'guildhall-gen-'));
  try {
    execFileSync('buf', ['lint'], { cwd: join(ROOT, 'proto'), stdio: 'inherit' });
    execFileSync('buf', ['generate', '-o', out], { cwd: join(ROOT, 'proto'), stdio: 'inherit' });
    const made = globSync('gen/**/*.ts', { cwd: out });
    for (const path of made) put(join('proto', path), readFileSync(join(out, path), 'utf8'));
    for (const path of globSync('gen/**/*.ts', { cwd: join(ROOT, 'proto') })) {
      if (!made.includes(path)) differing.push(`proto/${path} (no longer generated)`);
    }
  } finally {
    rmSync(out, { recursive: true, force: true });
  }
}

async function putDocument(path: string, content: string): Promise<void> {
  const file = join(ROOT, path);
  put(path, await format(content, { ...(await resolveConfig(file)), filepath: file }));
}

generateProto();
await putDocument('docs/errors.md', errorsDocument());
await putDocument('docs/config.md', await configDocument());
await putDocument('docs/metrics.md', metricsDocument());
const rows = JSON.parse(readFileSync(join(ROOT, CONFORMANCE_FILE), 'utf8')) as ConformanceRow[];
await putDocument('docs/api.md', withConformance(readFileSync(join(ROOT, 'docs/api.md'), 'utf8'), rows));
for (const [path, content] of await chartFiles(ROOT)) await putDocument(path, content);
for (const { file, json } of dashboards()) put(`charts/guildhall/files/dashboards/${file}`, json);
if (differing.length > 0) {
  process.stderr.write(`out of date: ${differing.join(', ')}\nrun: npm run gen\n`);
  process.exitCode = 1;
}
