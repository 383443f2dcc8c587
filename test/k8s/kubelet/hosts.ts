import type { V1EndpointSlice, V1Service } from '@kubernetes/client-node';

const DOMAIN = 'cluster.local';

function namesOf(service: string, namespace: string, home: string): string[] {
  const names = [`${service}.${namespace}.svc.${DOMAIN}`, `${service}.${namespace}.svc`, `${service}.${namespace}`];
  return namespace === home ? [...names, service] : names;
}

function ready(slice: V1EndpointSlice): { ip: string; hostname: string | null }[] {
  return (slice.endpoints ?? [])
    .filter(({ conditions }) => conditions?.ready !== false)
    .flatMap(({ addresses, hostname }) => addresses.map((ip) => ({ ip, hostname: hostname ?? null })));
}

/**
 * What `/etc/hosts` of a pod says of Services: the names that a cluster's DNS answers, for a pod of `namespace`. A Service
 * without a ClusterIP has the addresses of its ready pods, and names for pods that have a hostname.
 */
export function serviceHosts(
  services: readonly V1Service[],
  slices: readonly V1EndpointSlice[],
  namespace: string,
): string[] {
  return services.flatMap(({ metadata, spec }) => {
    const [name, home] = [metadata?.name ?? '', metadata?.namespace ?? ''];
    const names = namesOf(name, home, namespace);
    const ip = spec?.clusterIP ?? '';
    if (ip !== 'None' && ip !== '') return [`${ip}\t${names.join(' ')}`];
    const own = slices.filter(
      (slice) => slice.metadata?.namespace === home && slice.metadata.labels?.['kubernetes.io/service-name'] === name,
    );
    const pods = own.flatMap(ready);
    const subdomains = pods.flatMap(({ ip: address, hostname }) =>
      hostname === null ? [] : [`${address}\t${names.map((known) => `${hostname}.${known}`).join(' ')}`],
    );
    return [...pods.map(({ ip: address }) => `${address}\t${names.join(' ')}`), ...subdomains];
  });
}

/** The whole file of a pod. */
export function hostsFile(podIP: string, hostname: string, services: readonly string[]): string {
  const own = ['127.0.0.1\tlocalhost', '::1\tlocalhost ip6-localhost ip6-loopback', `${podIP}\t${hostname}`];
  return `${[...own, ...services].join('\n')}\n`;
}
