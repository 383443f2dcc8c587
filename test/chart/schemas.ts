import { errorMessage } from '@guildhall/common';
import type { Manifest } from './manifests.ts';

/** Packages with a class for each kind, by the API group that they know. */
const PACKAGES: [RegExp, string][] = [
  [/^cert-manager\.io\//, '@kubernetes-models/cert-manager'],
  [/^gateway\.networking\.k8s\.io\//, '@kubernetes-models/gateway-api'],
  [/^keda\.sh\//, '@kubernetes-models/keda'],
  [/^monitoring\.coreos\.com\//, '@kubernetes-models/prometheus-operator'],
  [/./, 'kubernetes-models'],
];

/** Kinds that no package knows; what is said of them here is what the tests of their own assert. */
const UNKNOWN = new Set(['InferencePool']);

interface Model {
  validate(): void;
}

/** What an object's schema says against it; null when nothing. */
export async function schemaError(object: Manifest): Promise<string | null> {
  const { apiVersion, kind } = object;
  if (UNKNOWN.has(kind)) return null;
  const name = PACKAGES.find(([group]) => group.test(apiVersion))?.[1] ?? '';
  const module = (await import(`${name}/${apiVersion}/${kind}`)) as Record<string, new (data: Manifest) => Model>;
  const Kind = module[kind];
  if (Kind === undefined) return `${apiVersion} has no kind ${kind}`;
  try {
    new Kind(object).validate();
    return null;
  } catch (err) {
    return errorMessage(err);
  }
}
