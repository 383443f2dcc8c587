/** A Kubernetes object as YAML has it. */
export interface Manifest {
  apiVersion: string;
  kind: string;
  metadata: {
    name: string;
    namespace?: string;
    labels?: Record<string, string>;
    annotations?: Record<string, string>;
  };
  spec?: Record<string, unknown>;
  data?: Record<string, string>;
  [key: string]: unknown;
}

export interface Container {
  name: string;
  image: string;
  command?: string[];
  args?: string[];
  env?: EnvVar[];
  envFrom?: { secretRef?: { name: string }; configMapRef?: { name: string } }[];
  ports?: { name: string; containerPort: number }[];
  resources?: { limits?: Record<string, unknown>; claims?: { name: string }[] };
  securityContext?: Record<string, unknown>;
  volumeMounts?: { name: string; mountPath: string; readOnly?: boolean }[];
  startupProbe?: Probe;
  readinessProbe?: Probe;
  livenessProbe?: Probe;
  lifecycle?: { preStop?: { exec?: { command: string[] } } };
}

export interface Probe {
  httpGet?: { path: string; port: string };
  tcpSocket?: { port: string };
  exec?: { command: string[] };
  periodSeconds?: number;
  failureThreshold?: number;
}

export interface EnvVar {
  name: string;
  value?: string;
  valueFrom?: {
    secretKeyRef?: { name: string; key: string };
    fieldRef?: { fieldPath: string };
    resourceFieldRef?: { resource: string };
  };
}

export interface Volume {
  name: string;
  [source: string]: unknown;
}

export interface PodSpec {
  serviceAccountName: string;
  automountServiceAccountToken: boolean;
  terminationGracePeriodSeconds: number;
  securityContext: Record<string, unknown>;
  initContainers?: Container[];
  containers: Container[];
  volumes?: Volume[];
  affinity?: { podAntiAffinity?: Record<string, unknown> };
  resourceClaims?: { name: string; resourceClaimTemplateName: string }[];
  tolerations?: unknown[];
  runtimeClassName?: string;
  topologySpreadConstraints?: unknown[];
}

/** A pod, or what makes pods. */
export interface Workload {
  object: Manifest;
  labels: Record<string, string>;
  annotations: Record<string, string>;
  pod: PodSpec;
  /** Labels that the object chooses its pods by; null for a pod. */
  selector: Record<string, string> | null;
}

interface Template {
  metadata: { labels: Record<string, string>; annotations?: Record<string, string> };
  spec: PodSpec;
}

/** Everything that makes pods. */
export function workloads(objects: readonly Manifest[]): Workload[] {
  return objects.flatMap((object): Workload[] => {
    if (object.kind === 'Pod') {
      const { labels = {}, annotations = {} } = object.metadata;
      return [{ object, labels, annotations, pod: object.spec as unknown as PodSpec, selector: null }];
    }
    if (!['Deployment', 'StatefulSet'].includes(object.kind)) return [];
    const spec = object.spec as { template: Template; selector: { matchLabels: Record<string, string> } };
    const { metadata, spec: pod } = spec.template;
    return [
      {
        object,
        labels: metadata.labels,
        annotations: metadata.annotations ?? {},
        pod,
        selector: spec.selector.matchLabels,
      },
    ];
  });
}

/** The workload of a component, and of a group where there are several. Throws when there is none. */
export function workload(objects: readonly Manifest[], component: string, group?: string): Workload {
  const found = workloads(objects).find(
    ({ labels }) =>
      labels['app.kubernetes.io/component'] === component &&
      (group === undefined || labels['guildhall.dev/group'] === group),
  );
  if (found === undefined) throw new Error(`there is no ${component} ${group ?? ''}`);
  return found;
}

/** Objects of a kind. */
export function ofKind(objects: readonly Manifest[], kind: string): Manifest[] {
  return objects.filter((object) => object.kind === kind);
}

/** One object. Throws when it is not there. */
export function object(objects: readonly Manifest[], kind: string, name: string): Manifest {
  const found = ofKind(objects, kind).find(({ metadata }) => metadata.name === name);
  if (found === undefined) throw new Error(`there is no ${kind} ${name}`);
  return found;
}

/** Whether labels are among those of a pod. */
export function matches(selector: Record<string, string>, labels: Record<string, string>): boolean {
  return Object.entries(selector).every(([name, value]) => labels[name] === value);
}

/** Containers of a pod, the init containers among them. */
export function containersOf(pod: PodSpec): Container[] {
  return [...(pod.initContainers ?? []), ...pod.containers];
}

/** A file of a ConfigMap as JSON. */
export function jsonFile(objects: readonly Manifest[], name: string, file: string): Record<string, unknown> {
  const text = object(objects, 'ConfigMap', name).data?.[file];
  if (text === undefined) throw new Error(`ConfigMap ${name} has no ${file}`);
  return JSON.parse(text) as Record<string, unknown>;
}
