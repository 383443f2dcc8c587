/**
 * Compiles the workspaces into `dist/`, a tree of plain JavaScript that container images copy: package manifests point
 * at the compiled entries, and the packages find each other through `dist/node_modules/@guildhall`.
 *
 *   node scripts/build-images.ts [--check]
 *
 * `--check` also starts every service from that tree with `--help`.
 */
import { execFileSync } from 'node:child_process';
import { cpSync, globSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = resolve(fileURLToPath(new URL('..', import.meta.url)));
const DIST = join(ROOT, 'dist');
const WORKSPACES = ['proto', 'native', ...globSync('services/*', { cwd: ROOT })];

interface Manifest {
  name: string;
  exports: Record<string, string>;
}

function compile(): void {
  rmSync(DIST, { recursive: true, force: true });
  execFileSync('tsc', ['-p', 'tsconfig.images.json'], { cwd: ROOT, stdio: 'inherit' });
}

/** Manifests, scripts and other files that the sources read at run time. */
function copyData(): void {
  for (const path of globSync(['services/*/src/**/*.lua', 'native/build/guildhall.node', 'models/tiny/config.json'], {
    cwd: ROOT,
  })) {
    mkdirSync(dirname(join(DIST, path)), { recursive: true });
    cpSync(join(ROOT, path), join(DIST, path));
  }
}

function linkPackages(): void {
  mkdirSync(join(DIST, 'node_modules', '@guildhall'), { recursive: true });
  for (const workspace of WORKSPACES) {
    const manifest = JSON.parse(readFileSync(join(ROOT, workspace, 'package.json'), 'utf8')) as Manifest;
    const compiled = Object.entries(manifest.exports).map(([name, file]) => [name, file.replace(/\.ts$/, '.js')]);
    manifest.exports = Object.fromEntries(compiled) as Record<string, string>;
    writeFileSync(join(DIST, workspace, 'package.json'), `${JSON.stringify(manifest, null, 2)}\n`);
    symlinkSync(join('..', '..', workspace), join(DIST, 'node_modules', manifest.name));
  }
}

function check(): void {
  for (const main of globSync('services/*/src/main.js', { cwd: DIST })) {
    const help = execFileSync(process.execPath, [join(DIST, main), '--help'], { encoding: 'utf8' });
    if (!/usage/i.test(help)) throw new Error(`${main} --help printed no usage`);
    process.stdout.write(`${main} starts\n`);
  }
}

compile();
copyData();
linkPackages();
if (process.argv.includes('--check')) check();
