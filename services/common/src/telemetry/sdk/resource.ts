import { detectResources, envDetector, type Resource, resourceFromAttributes } from '@opentelemetry/resources';
import { VERSION } from '../../version.ts';

/** Attributes of a process. OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME add to them and win. */
export function makeResource(
  service: string,
  id: string,
  further: Readonly<Record<string, string | null | undefined>>,
): Resource {
  const own: Record<string, string> = {
    'service.name': `guildhall-${service}`,
    'service.namespace': 'guildhall',
    'service.instance.id': id,
    'service.version': VERSION,
  };
  for (const [name, value] of Object.entries(further)) if (typeof value === 'string') own[name] = value;
  return resourceFromAttributes(own).merge(detectResources({ detectors: [envDetector] }));
}
