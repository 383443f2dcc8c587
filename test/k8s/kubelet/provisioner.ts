import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type CoreV1Api, type KubeConfig, StorageV1Api, type V1PersistentVolumeClaim } from '@kubernetes/client-node';
import { keepInformed } from './node-state.ts';

const CLASS = 'bench-host-path';

/** The default StorageClass: each claim gets a folder of this machine, as on a cluster with one node's disk. */
export async function startProvisioner(
  config: KubeConfig,
  core: CoreV1Api,
  folder: string,
  signal: AbortSignal,
): Promise<void> {
  const metadata = { name: CLASS, annotations: { 'storageclass.kubernetes.io/is-default-class': 'true' } };
  await config.makeApiClient(StorageV1Api).createStorageClass({
    body: {
      metadata,
      provisioner: 'guildhall.dev/bench-host-path',
      reclaimPolicy: 'Delete',
      volumeBindingMode: 'Immediate',
    },
  });
  const claims = await keepInformed(
    config,
    '/api/v1/persistentvolumeclaims',
    () => core.listPersistentVolumeClaimForAllNamespaces(),
    signal,
  );
  const made = new Set<string>();
  const provide = async (claim: V1PersistentVolumeClaim): Promise<void> => {
    const { uid = '', name = '', namespace = '' } = claim.metadata ?? {};
    if (claim.spec?.storageClassName !== CLASS || claim.spec.volumeName !== undefined || made.has(uid)) return;
    made.add(uid);
    const path = join(folder, uid);
    await mkdir(path, { recursive: true });
    await core.createPersistentVolume({
      body: {
        metadata: { name: `pvc-${uid}` },
        spec: {
          capacity: { storage: claim.spec.resources?.requests?.['storage'] ?? '1Gi' },
          accessModes: claim.spec.accessModes ?? ['ReadWriteOnce'],
          persistentVolumeReclaimPolicy: 'Retain',
          storageClassName: CLASS,
          hostPath: { path, type: 'DirectoryOrCreate' },
          claimRef: { apiVersion: 'v1', kind: 'PersistentVolumeClaim', name, namespace, uid },
        },
      },
    });
  };
  claims.on('change', (claim) => void provide(claim).catch(() => made.delete(claim.metadata?.uid ?? '')));
}
