import type { V1Container, V1Pod, V1ResourceFieldSelector } from '@kubernetes/client-node';
import { inUnits } from './quantity.ts';

/** What only the node knows of a pod. */
export interface PodFacts {
  podIP: string;
  hostIP: string;
}

function keyed(values: Record<string, string> | undefined, key: string): string {
  return values?.[key] ?? '';
}

function lines(values: Record<string, string> | undefined): string {
  const sorted = Object.entries(values ?? {}).sort(([left], [right]) => (left < right ? -1 : 1));
  return sorted.map(([key, value]) => `${key}=${JSON.stringify(value)}`).join('\n');
}

/** Value of a `fieldRef` of the downward API. Throws on a path that Kubernetes does not offer. */
export function fieldValue(pod: V1Pod, facts: PodFacts, path: string): string {
  const one = /^metadata\.(labels|annotations)\['([^']+)'\]$/.exec(path);
  if (one !== null) return keyed(pod.metadata?.[one[1] as 'labels' | 'annotations'], one[2] as string);
  switch (path) {
    case 'metadata.name':
      return pod.metadata?.name ?? '';
    case 'metadata.namespace':
      return pod.metadata?.namespace ?? '';
    case 'metadata.uid':
      return pod.metadata?.uid ?? '';
    case 'metadata.labels':
      return lines(pod.metadata?.labels);
    case 'metadata.annotations':
      return lines(pod.metadata?.annotations);
    case 'spec.nodeName':
      return pod.spec?.nodeName ?? '';
    case 'spec.serviceAccountName':
      return pod.spec?.serviceAccountName ?? '';
    case 'status.podIP':
    case 'status.podIPs':
      return facts.podIP;
    case 'status.hostIP':
    case 'status.hostIPs':
      return facts.hostIP;
    default:
      throw new Error(`the downward API has no field ${path}`);
  }
}

/** What a limit is where none is set: all of the node. */
export interface NodeResources {
  cpu: string;
  memory: string;
}

/** Value of a `resourceFieldRef`. */
export function resourceValue(
  pod: V1Pod,
  container: V1Container,
  selector: V1ResourceFieldSelector,
  node: NodeResources,
): string {
  const named = pod.spec?.containers.find(({ name }) => name === selector.containerName) ?? container;
  const [kind, name] = selector.resource.split('.') as ['limits' | 'requests', string];
  const set = named.resources?.[kind]?.[name];
  const fallback = kind === 'limits' && (name === 'cpu' || name === 'memory') ? node[name] : '0';
  return inUnits(set ?? fallback, selector.divisor);
}
