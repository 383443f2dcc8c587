import { detectResources, envDetector, type Resource, resourceFromAttributes } from '@opentelemetry/resources';
import { VERSION } from '../../version.ts';

/** Attributes of a process. OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME add to them and win. */
export function makeResource(
  service: string,
  id: string,
  { cluster, node }: { cluster?: string; node?: string | null },
): Resource {
  const own: Record<string, string> = {
    'service.name': `guildhall-${service}`,
    'service.namespace': 'guildhall',
    'service.instance.id': id,
    'service.version': VERSION,
  };
  if (cluster !== undefined) own['guildhall.cluster'] = cluster;
  if (typeof node === 'string') own['k8s.node.name'] = node;
  return resourceFromAttributes(own).merge(detectResources({ detectors: [envDetector] }));
}
