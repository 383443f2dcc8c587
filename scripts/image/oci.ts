import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { BUILD, ROOT } from './layout.ts';

/** What an image is labelled with. */
export interface ImageLabels {
  version: string;
  revision: string;
  /** Seconds since 1970 of every file and of the image: the time of the commit, so that a build can be repeated. */
  epoch: number;
}

interface Descriptor {
  digest: string;
  size: number;
}

/** Where the pieces of one image are. */
export const OCI = join(BUILD, 'oci');
export const ROOTFS = join(BUILD, 'rootfs');

const STORE = join(BUILD, 'store');

/**
 * Builds the Dockerfile's last stage with buildah, with `context` in the place of the stage before it, and writes the
 * image as an OCI layout. Buildah needs no daemon, and no kernel with overlay mounts: without them it copies.
 * @throws Error with what buildah says.
 */
export function buildLayout(context: string, labels: ImageLabels): void {
  for (const folder of [STORE, OCI]) rmSync(folder, { recursive: true, force: true });
  mkdirSync(STORE, { recursive: true });
  const driver = buildah('overlay', ['info']) === null ? 'overlay' : 'vfs';
  const image = `guildhall:${labels.version}`;
  const fresh = [
    'bud',
    '--layers',
    '--isolation',
    'chroot',
    '--target',
    'runtime',
    '--timestamp',
    String(labels.epoch),
  ];
  const from = ['--build-context', `stage=${context}`, '--file', 'deploy/docker/Dockerfile', '--tag', image];
  const labelled = ['--build-arg', `VERSION=${labels.version}`, '--build-arg', `REVISION=${labels.revision}`];
  const build = [...fresh, ...from, ...labelled, context];
  try {
    for (const args of [build, ['push', image, `oci:${OCI}:${labels.version}`]]) {
      const problem = buildah(driver, args);
      if (problem !== null) throw new Error(`buildah ${args[0]} failed:\n${problem}`);
    }
  } finally {
    rmSync(STORE, { recursive: true, force: true });
  }
}

/** Runs buildah with a store of our own. @returns what it says when it fails, or null. */
function buildah(driver: string, args: readonly string[]): string | null {
  const storage = ['--root', join(STORE, driver), '--runroot', join(STORE, 'run'), '--storage-driver', driver];
  const { status, stderr, error } = spawnSync('buildah', [...storage, ...args], { cwd: ROOT, encoding: 'utf8' });
  if (error !== undefined) return `${error.message}; install it with: apt-get install --no-install-recommends buildah`;
  return status === 0 ? null : stderr.trim().split('\n').slice(-30).join('\n');
}

/** What an OCI layout says of its image. */
export interface ImageRecord {
  digest: string;
  /** Bytes as stored in a registry, compressed. */
  compressedBytes: number;
  config: {
    config: { User: string; Env: string[]; Cmd: string[]; WorkingDir: string; Labels: Record<string, string> };
    rootfs: { diff_ids: string[] };
  };
  /** Files of the layers in order. */
  layers: string[];
}

/** Reads a layout with one image. */
export function readLayout(layout: string): ImageRecord {
  const blob = (digest: string): string => join(layout, 'blobs', ...digest.split(':'));
  const json = <T>(file: string): T => JSON.parse(readFileSync(file, 'utf8')) as T;
  const { manifests } = json<{ manifests: Descriptor[] }>(join(layout, 'index.json'));
  const [descriptor] = manifests;
  if (descriptor === undefined) throw new Error(`${layout} holds no image; run npm run image`);
  const manifest = json<{ config: Descriptor; layers: Descriptor[] }>(blob(descriptor.digest));
  return {
    digest: descriptor.digest,
    compressedBytes: manifest.layers.reduce((sum, layer) => sum + layer.size, 0),
    config: json(blob(manifest.config.digest)),
    layers: manifest.layers.map((layer) => blob(layer.digest)),
  };
}

/** Unpacks the layers over each other, with their owners and modes. Needs root. */
export function unpack(image: ImageRecord, target: string): void {
  rmSync(target, { recursive: true, force: true });
  mkdirSync(target, { recursive: true });
  for (const layer of image.layers)
    execFileSync('tar', ['--extract', '--same-owner', '--same-permissions', '--file', layer, '--directory', target]);
}
