import type { V1Node } from '@kubernetes/client-node';

/** A machine that does not exist. */
export interface FakeNode {
  name: string;
  zone?: string;
  /** Number of GPUs that the device plugin reports; 0 gives a node without. */
  gpus?: number;
  gpuProduct?: string;
  cpus?: number;
  memoryGi?: number;
  labels?: Record<string, string>;
  taints?: { key: string; value?: string; effect: string }[];
}

/** A Node object that kwok keeps Ready and whose pods it plays (`test/k8s/kwok/stages.yaml`). */
export function fakeNode(node: FakeNode): V1Node {
  const { name, zone = 'zone-a', gpus = 0, gpuProduct = 'NVIDIA-H100-80GB-HBM3', cpus = 64, memoryGi = 512 } = node;
  const capacity: Record<string, string> = {
    cpu: String(cpus),
    memory: `${memoryGi}Gi`,
    pods: '110',
    'ephemeral-storage': '1Ti',
    ...(gpus > 0 ? { 'nvidia.com/gpu': String(gpus) } : {}),
  };
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: {
      name,
      annotations: { 'kwok.x-k8s.io/node': 'fake' },
      labels: {
        'kubernetes.io/hostname': name,
        'kubernetes.io/os': 'linux',
        'kubernetes.io/arch': 'amd64',
        'topology.kubernetes.io/zone': zone,
        ...(gpus > 0 ? { 'nvidia.com/gpu.product': gpuProduct, 'nvidia.com/gpu.count': String(gpus) } : {}),
        ...node.labels,
      },
    },
    spec: node.taints === undefined ? {} : { taints: node.taints },
    status: { capacity, allocatable: capacity },
  };
}
