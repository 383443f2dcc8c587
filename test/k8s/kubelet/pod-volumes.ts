import { chmod, chown, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { CoreV1Api, V1Pod, V1Volume, V1VolumeMount } from '@kubernetes/client-node';
import { writeAtomically } from './atomic-files.ts';
import { attempt, run } from './command.ts';
import { expandVariables, MissingReference } from './environment.ts';
import type { BindMount } from './oci-spec.ts';
import { isProjection, projectedFiles, type ProjectionInput } from './projection.ts';
import { parseQuantity } from './quantity.ts';

/** The volumes of one pod in a folder of the node. */
export class PodVolumes {
  readonly #pod: V1Pod;
  readonly #folder: string;
  readonly #core: CoreV1Api;
  readonly #input: ProjectionInput;
  readonly #places = new Map<string, { path: string; readonly: boolean }>();
  readonly #mounted: string[] = [];

  constructor(folder: string, core: CoreV1Api, input: ProjectionInput) {
    this.#pod = input.pod();
    this.#folder = folder;
    this.#core = core;
    this.#input = input;
  }

  get #group(): number | null {
    return this.#pod.spec?.securityContext?.fsGroup ?? null;
  }

  /** Makes all volumes. Throws MissingReference while what one of them needs is not there. */
  async prepare(): Promise<void> {
    for (const volume of this.#pod.spec?.volumes ?? []) {
      if (!this.#places.has(volume.name)) this.#places.set(volume.name, await this.#make(volume));
    }
  }

  async #make(volume: V1Volume): Promise<{ path: string; readonly: boolean }> {
    if (volume.hostPath !== undefined) return { path: await hostPath(volume.hostPath), readonly: false };
    if (volume.persistentVolumeClaim !== undefined) {
      const { claimName, readOnly = false } = volume.persistentVolumeClaim;
      return { path: await this.#claimed(claimName), readonly: readOnly };
    }
    const path = join(this.#folder, volume.name);
    await mkdir(path, { recursive: true });
    if (volume.emptyDir !== undefined) {
      await this.#emptyDir(path, volume.emptyDir);
      return { path, readonly: false };
    }
    if (!isProjection(volume)) throw new Error(`volume ${volume.name}: its kind is not supported by the test bench`);
    await this.#project(volume, path);
    return { path, readonly: true };
  }

  async #emptyDir(path: string, { medium, sizeLimit }: NonNullable<V1Volume['emptyDir']>): Promise<void> {
    if (medium === 'Memory') {
      const size = sizeLimit === undefined ? '' : `,size=${Math.floor(parseQuantity(sizeLimit))}`;
      await run('mount', ['-t', 'tmpfs', 'tmpfs', '-o', `mode=0777${size}`, path]);
      this.#mounted.push(path);
    }
    await chmod(path, this.#group === null ? 0o777 : 0o2777);
    if (this.#group !== null) await chown(path, 0, this.#group);
  }

  async #claimed(name: string): Promise<string> {
    const namespace = this.#pod.metadata?.namespace ?? '';
    const claim = await this.#core.readNamespacedPersistentVolumeClaim({ namespace, name });
    const bound = claim.spec?.volumeName;
    if (bound === undefined || claim.status?.phase !== 'Bound')
      throw new MissingReference(`claim "${name}" is not bound`);
    const source = (await this.#core.readPersistentVolume({ name: bound })).spec?.hostPath;
    if (source === undefined) throw new Error(`volume ${bound}: only hostPath volumes are supported by the test bench`);
    const path = await hostPath(source);
    if (this.#group !== null) {
      await chown(path, 0, this.#group);
      await chmod(path, 0o2775);
    }
    return path;
  }

  async #project(volume: V1Volume, path: string): Promise<void> {
    await writeAtomically(path, await projectedFiles(this.#input, volume), this.#group);
  }

  /** Writes projected volumes again whose contents have changed. */
  async refresh(): Promise<void> {
    for (const volume of this.#pod.spec?.volumes ?? []) {
      const place = this.#places.get(volume.name);
      if (place !== undefined && isProjection(volume)) await this.#project(volume, place.path);
    }
  }

  /** What a container sees of them. */
  async mounts(mounts: readonly V1VolumeMount[], environment: ReadonlyMap<string, string>): Promise<BindMount[]> {
    return await Promise.all(
      mounts.map(async ({ name, mountPath, readOnly = false, subPath, subPathExpr }) => {
        const place = this.#places.get(name);
        if (place === undefined) throw new MissingReference(`volume "${name}" not found`);
        const below = subPath ?? (subPathExpr === undefined ? '' : expandVariables(subPathExpr, environment));
        const source = join(place.path, below);
        // A path below a projected volume must be there; below others it is made.
        if (below !== '' && !place.readonly) await mkdir(source, { recursive: true });
        return { source, destination: mountPath, readonly: readOnly || place.readonly };
      }),
    );
  }

  async release(): Promise<void> {
    for (const path of this.#mounted.splice(0)) await attempt('umount', ['--lazy', path]);
  }
}

async function hostPath({ path, type }: { path: string; type?: string }): Promise<string> {
  if (type === 'DirectoryOrCreate') await mkdir(path, { recursive: true, mode: 0o755 });
  return path;
}
