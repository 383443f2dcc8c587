import { chmodSync, copyFileSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { ensurePrograms } from './binaries/index.ts';
import { type ImageTable, machineImage } from './kubelet/images.ts';

/** A container of this machine's own programs, for tests of the kubelet. */
export const MACHINE_IMAGE = 'bench.guildhall.dev/machine';
export const VALKEY_IMAGE = 'docker.io/valkey/valkey';

const LAYERS = '/run/guildhall-k8s-layers';

/** Puts programs into `usr/local/bin` of a layer. */
function layer(name: string, programs: readonly string[]): string {
  const bin = join(LAYERS, name, 'usr/local/bin');
  mkdirSync(bin, { recursive: true });
  for (const program of programs) {
    const target = join(bin, program.split('/').at(-1) as string);
    copyFileSync(program, target);
    chmodSync(target, 0o755);
  }
  return join(LAYERS, name);
}

/** Gives the nodes the images that a chart names: there is no registry to pull from. */
export async function addImages(images: ImageTable): Promise<void> {
  images.add(MACHINE_IMAGE, machineImage());
  const { 'valkey-server': valkey } = await ensurePrograms(['valkey-server']);
  images.add(VALKEY_IMAGE, machineImage([layer('valkey', [valkey])], { user: '999:999', command: ['valkey-server'] }));
}
