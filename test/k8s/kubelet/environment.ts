import type { V1Container, V1Pod, V1Service } from '@kubernetes/client-node';
import { fieldValue, type NodeResources, type PodFacts, resourceValue } from './downward.ts';

/** ConfigMaps and Secrets of a namespace, as text; undefined where there is none of that name. */
export interface KeyedSource {
  configMap(name: string): Promise<Record<string, string> | undefined>;
  secret(name: string): Promise<Record<string, string> | undefined>;
}

/** A container that cannot be started until something else is there. */
export class MissingReference extends Error {}

/**
 * Replaces `$(NAME)` by the value of NAME; `$$` stands for `$`, and a reference to nothing stays as it is
 * (third_party/forked/golang/expansion of Kubernetes).
 */
export function expandVariables(text: string, values: ReadonlyMap<string, string>): string {
  return text.replace(/\$(\$|\(([^)]*)\))/g, (whole, escaped: string, name: string | undefined) => {
    if (escaped === '$') return '$';
    return values.get(name ?? '') ?? whole;
  });
}

/**
 * Variables that say where the Services of a namespace are, as every pod gets them unless `enableServiceLinks` is false. A
 * Service `guildhall` gives `GUILDHALL_PORT`, which is why a chart should turn them off.
 */
export function serviceLinks(services: readonly V1Service[]): Map<string, string> {
  const values = new Map<string, string>();
  for (const { metadata, spec } of services) {
    const ip = spec?.clusterIP ?? '';
    const ports = spec?.ports ?? [];
    const [first] = ports;
    if (ip === '' || ip === 'None' || first === undefined) continue;
    const prefix = (metadata?.name ?? '').toUpperCase().replaceAll('-', '_');
    values.set(`${prefix}_SERVICE_HOST`, ip).set(`${prefix}_SERVICE_PORT`, String(first.port));
    values.set(`${prefix}_PORT`, `${(first.protocol ?? 'TCP').toLowerCase()}://${ip}:${first.port}`);
    for (const { name, port, protocol = 'TCP' } of ports) {
      if (name !== undefined) {
        values.set(`${prefix}_SERVICE_PORT_${name.toUpperCase().replaceAll('-', '_')}`, String(port));
      }
      const base = `${prefix}_PORT_${port}_${protocol}`;
      values.set(base, `${protocol.toLowerCase()}://${ip}:${port}`);
      values.set(`${base}_PROTO`, protocol.toLowerCase()).set(`${base}_PORT`, String(port)).set(`${base}_ADDR`, ip);
    }
  }
  return values;
}

/** Everything that decides a container's environment. */
export interface EnvironmentInput {
  pod: V1Pod;
  container: V1Container;
  facts: PodFacts;
  node: NodeResources;
  sources: KeyedSource;
  /** What the image sets; anything else goes before it. */
  image: Readonly<Record<string, string>>;
  links: ReadonlyMap<string, string>;
}

/** The variables of a container, later ones over earlier ones: image, services, envFrom, env. Throws MissingReference. */
export async function containerEnvironment(input: EnvironmentInput): Promise<Map<string, string>> {
  const values = new Map([...Object.entries(input.image), ...input.links]);
  for (const from of input.container.envFrom ?? []) {
    const reference = from.configMapRef ?? from.secretRef;
    const name = reference?.name ?? '';
    const data = await (from.configMapRef === undefined ? input.sources.secret(name) : input.sources.configMap(name));
    if (data === undefined && reference?.optional !== true) throw new MissingReference(`"${name}" not found`);
    for (const [key, value] of Object.entries(data ?? {})) values.set(`${from.prefix ?? ''}${key}`, value);
  }
  for (const { name, value, valueFrom } of input.container.env ?? []) {
    if (valueFrom === undefined) values.set(name, expandVariables(value ?? '', values));
    else {
      const found = await referenced(input, valueFrom);
      if (found !== undefined) values.set(name, found);
    }
  }
  return values;
}

type ValueFrom = NonNullable<NonNullable<V1Container['env']>[number]['valueFrom']>;

async function referenced(input: EnvironmentInput, from: ValueFrom): Promise<string | undefined> {
  if (from.fieldRef !== undefined) return fieldValue(input.pod, input.facts, from.fieldRef.fieldPath);
  if (from.resourceFieldRef !== undefined) {
    return resourceValue(input.pod, input.container, from.resourceFieldRef, input.node);
  }
  const reference = from.configMapKeyRef ?? from.secretKeyRef;
  if (reference === undefined) return undefined;
  const name = reference.name ?? '';
  const data = await (from.configMapKeyRef === undefined ? input.sources.secret(name) : input.sources.configMap(name));
  const value = data?.[reference.key];
  if (value === undefined && reference.optional !== true) {
    throw new MissingReference(data === undefined ? `"${name}" not found` : `no key ${reference.key} in "${name}"`);
  }
  return value;
}
