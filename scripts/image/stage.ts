import { execFileSync } from 'node:child_process';
import { chmodSync, copyFileSync, cpSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { type DebianPackage, makeBase } from './base.ts';
import { type ShippedPackage, shippedPackages } from './dependencies.ts';
import { APP, BUILD, type Layer, LAYERS, MODEL_LEFT_OUT, NODE, PROGRAMS, ROOT } from './layout.ts';
import { thirdPartyNotices } from './notices.ts';
import { copyPackage } from './prune.ts';
import { billOfMaterials } from './sbom.ts';

/** What the layers were made of. */
export interface Stage {
  packages: ShippedPackage[];
  debian: DebianPackage[];
}

/**
 * Writes one folder for each layer under `out`, with paths as in the image. The checkout must be built: npm packages
 * installed, and `native/build/guildhall.node` there.
 * @param onStep gets what is being done.
 */
export function writeStage(out: string, onStep: (label: string) => void): Stage {
  for (const layer of LAYERS) rmSync(join(out, layer), { recursive: true, force: true });
  const within = (layer: Layer, path: string): string => join(out, layer, path);
  onStep('base: Debian packages');
  const debian = makeBase(join(out, 'base'), join(BUILD, 'debs'));
  onStep(`node: Node.js ${process.versions.node}`);
  copyNode(within('node', NODE));
  onStep('app: compiling the services');
  execFileSync(process.execPath, ['scripts/build-images.ts'], { cwd: ROOT, stdio: ['ignore', 'ignore', 'inherit'] });
  copyCompiled(within('app', `${APP}/dist`));
  writePrograms(within('app', `${APP}/bin`), within('app', dirname(NODE)));
  onStep('packages: what the services load');
  const packages = shippedPackages(ROOT, shippedWorkspaces());
  for (const { name, path } of packages) copyPackage(name, join(ROOT, path), within('packages', `${APP}/${path}`));
  onStep('model: the tiny checkpoint');
  copyModel(within('model', `${APP}/models/tiny`));
  onStep('app: licences and bill of materials');
  writeRecords(within('app', APP), { packages, debian });
  return { packages, debian };
}

/** The Node that runs this: npm installed it at the version and digest that package-lock.json gives. */
function copyNode(target: string): void {
  mkdirSync(dirname(target), { recursive: true });
  copyFileSync(process.execPath, target);
  chmodSync(target, 0o755);
}

function nodeLicence(): string {
  return readFileSync(join(dirname(process.execPath), '..', 'LICENSE'), 'utf8').trim();
}

/** Folders of the workspaces that build-images.ts compiled. */
function shippedWorkspaces(): string[] {
  return ['proto', 'native', ...Object.values(PROGRAMS).map((main) => main.split('/').slice(0, 2).join('/'))];
}

function copyCompiled(target: string): void {
  cpSync(join(ROOT, 'dist'), target, {
    recursive: true,
    verbatimSymlinks: true,
    filter: (source) => !source.endsWith('.map'),
  });
  // Where the CLI looks for its default checkpoint; the compiled tree has its configuration only.
  rmSync(join(target, 'models'), { recursive: true, force: true });
  symlinkSync('../models', join(target, 'models'));
}

/** Programs are Node modules that start with the path of Node: there is no shell, and Node is process 1 itself. */
function writePrograms(bin: string, path: string): void {
  mkdirSync(bin, { recursive: true });
  mkdirSync(path, { recursive: true });
  for (const [name, main] of Object.entries(PROGRAMS)) {
    const file = join(bin, `${name}.js`);
    writeFileSync(file, programText(main));
    chmodSync(file, 0o755);
    symlinkSync(`${APP}/bin/${name}.js`, join(path, name));
  }
  copyFileSync(join(ROOT, 'deploy', 'docker', 'warm-compile-cache.mjs'), join(bin, 'warm-compile-cache.mjs'));
}

/**
 * A process 1 gets no signal that it has no handler for. Until a program has its own, a signal ends it here: a pod that
 * is deleted while it starts would wait for the end of its grace period otherwise, and Ctrl-C would do nothing.
 */
function programText(main: string): string {
  return `#!${NODE}
const ends = { SIGINT: () => process.exit(130), SIGTERM: () => process.exit(143) };
for (const [signal, end] of Object.entries(ends)) process.on(signal, end);
process.on('newListener', (name) => {
  // Afterwards: Node stops to listen for a signal when its last handler goes.
  if (name in ends) process.nextTick(() => process.off(name, ends[name]));
});
await import('../dist/${main}');
`;
}

function copyModel(target: string): void {
  cpSync(join(ROOT, 'models', 'tiny'), target, {
    recursive: true,
    filter: (source) => !MODEL_LEFT_OUT.includes(basename(source)),
  });
}

function writeRecords(app: string, stage: Stage): void {
  const { version, license } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as Record<string, string>;
  const write = (name: string, text: string): void => writeFileSync(join(app, name), text);
  write('package.json', `${JSON.stringify({ name: 'guildhall', version, license, private: true, type: 'module' })}\n`);
  write('LICENSE', readFileSync(join(ROOT, 'LICENSE'), 'utf8'));
  write('THIRD-PARTY-NOTICES.txt', thirdPartyNotices(ROOT, stage.packages, nodeLicence()));
  write('sbom.cdx.json', `${JSON.stringify(billOfMaterials(stage.packages, stage.debian), null, 1)}\n`);
}
