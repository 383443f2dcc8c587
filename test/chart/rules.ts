import type { Case } from './cases.ts';
import {
  type Container,
  containersOf,
  type Manifest,
  matches,
  ofKind,
  type PodSpec,
  type Volume,
  workloads,
  type Workload,
} from './manifests.ts';

/** A rule over the objects of a release: what it finds wrong. */
export type Rule = (objects: readonly Manifest[], given: Case) => string[];

const nameOf = ({ kind, metadata }: Manifest): string => `${kind} ${metadata.name}`;

/** Volume types of the Pod Security Standard `restricted`. */
const VOLUMES = new Set([
  'configMap',
  'csi',
  'downwardAPI',
  'emptyDir',
  'ephemeral',
  'persistentVolumeClaim',
  'projected',
  'secret',
]);

function containerFaults({ securityContext = {} }: Container): string[] {
  const { allowPrivilegeEscalation, readOnlyRootFilesystem, capabilities, privileged } = securityContext;
  const { drop = [], add = [] } = (capabilities ?? {}) as { drop?: string[]; add?: string[] };
  return [
    ...(allowPrivilegeEscalation === false ? [] : ['may gain privileges']),
    ...(readOnlyRootFilesystem === true ? [] : ['writes to its root filesystem']),
    ...(drop.includes('ALL') && add.length === 0 ? [] : ['keeps capabilities']),
    ...(privileged === true ? ['is privileged'] : []),
  ];
}

function podFaults({ securityContext, volumes = [] }: PodSpec, allowed: readonly string[]): string[] {
  const { runAsNonRoot, runAsUser, seccompProfile } = securityContext as {
    runAsNonRoot?: boolean;
    runAsUser?: number;
    seccompProfile?: { type: string };
  };
  const types = volumes.flatMap((volume: Volume) => Object.keys(volume).filter((key) => key !== 'name'));
  return [
    ...(runAsNonRoot === true && runAsUser === 10_001 ? [] : ['may run as root']),
    ...(seccompProfile?.type === 'RuntimeDefault' ? [] : ['has no seccomp profile']),
    ...types.filter((type) => !VOLUMES.has(type) && !allowed.includes(type)).map((type) => `has a volume ${type}`),
  ];
}

/** Every pod meets the Pod Security Standard `restricted`, but for volumes that the values ask for. */
export const restricted: Rule = (objects, { unrestricted = [] }) =>
  workloads(objects).flatMap(({ object, pod }) => [
    ...podFaults(pod, unrestricted).map((fault) => `${nameOf(object)} ${fault}`),
    ...containersOf(pod).flatMap((container) =>
      containerFaults(container).map((fault) => `${nameOf(object)}: ${container.name} ${fault}`),
    ),
  ]);

/** Only what calls the API server gets a token. */
export const tokens: Rule = (objects) =>
  workloads(objects)
    .filter(({ labels, pod }) => {
      return pod.automountServiceAccountToken !== (labels['app.kubernetes.io/component'] === 'controller');
    })
    .map(({ object }) => `${nameOf(object)} has a token it needs not, or lacks one`);

/** Selectors can never change: nothing that an upgrade changes is among them, and pods carry them. */
export const selectors: Rule = (objects) =>
  workloads(objects).flatMap(({ object, selector, labels }) => {
    if (selector === null) return [];
    const names = Object.keys(selector).filter((name) => /version|generation|chart|managed-by/.test(name));
    return [
      ...names.map((name) => `${nameOf(object)} selects by ${name}`),
      ...(matches(selector, labels) ? [] : [`${nameOf(object)} does not select its own pods`]),
    ];
  });

/** No two workloads select each other's pods. */
export const disjoint: Rule = (objects) => {
  const all = workloads(objects);
  return all.flatMap(({ object, selector }) =>
    all
      .filter((other) => other.object !== object && selector !== null && matches(selector, other.labels))
      .map((other) => `${nameOf(object)} also selects pods of ${nameOf(other.object)}`),
  );
};

/** Services, budgets and policies choose pods that exist. */
export const chosen: Rule = (objects) => {
  const pods = workloads(objects);
  const selectorOf = ({ kind, spec }: Manifest): Record<string, string> | null => {
    if (kind === 'Service') return spec?.['selector'] as Record<string, string>;
    const selector = (spec?.['selector'] ?? spec?.['podSelector']) as { matchLabels?: Record<string, string> };
    return selector?.matchLabels ?? null;
  };
  return objects
    .filter(({ kind }) => ['Service', 'PodDisruptionBudget', 'NetworkPolicy', 'InferencePool'].includes(kind))
    .filter((object) => !pods.some(({ labels }) => matches(selectorOf(object) ?? { none: '' }, labels)))
    .map((object) => `${nameOf(object)} chooses no pod`);
};

/** Ports of Services exist in the pods that they choose. */
export const ports: Rule = (objects) =>
  ofKind(objects, 'Service').flatMap((service) => {
    const spec = service.spec as { selector: Record<string, string>; ports: { targetPort: string }[] };
    const pods = workloads(objects).filter(({ labels }) => matches(spec.selector, labels));
    return spec.ports.flatMap(({ targetPort }) =>
      pods
        .filter(({ pod }) => !containersOf(pod).some((c) => c.ports?.some(({ name }) => name === targetPort)))
        .map(({ object }) => `${nameOf(service)}: ${nameOf(object)} has no port ${targetPort}`),
    );
  });

function replicasOf({ object }: Workload): unknown {
  return object.spec?.['replicas'];
}

/** Deployments that something scales, by who does. */
export function scaled(objects: readonly Manifest[]): Map<string, string[]> {
  const by = new Map<string, string[]>();
  const add = (deployment: string, who: string): void => {
    by.set(deployment, [...(by.get(deployment) ?? []), who]);
  };
  for (const object of objects) {
    if (!['HorizontalPodAutoscaler', 'ScaledObject'].includes(object.kind)) continue;
    add(((object.spec ?? {})['scaleTargetRef'] as { name: string }).name, object.kind);
  }
  const text = objects.find(({ data }) => data?.['autoscaler.json'] !== undefined)?.data?.['autoscaler.json'];
  if (text === undefined) return by;
  const policy = JSON.parse(text) as {
    mode: string;
    groups: { deployment: string }[];
    routers: { deployment: string } | null;
  };
  if (policy.mode !== 'active') return by;
  for (const { deployment } of policy.groups) add(deployment, 'autoscaler');
  if (policy.routers) add(policy.routers.deployment, 'autoscaler');
  return by;
}

/** One scaler at most, of a Deployment that exists; and `replicas` exactly where there is none. */
export const scalers: Rule = (objects) => {
  const by = scaled(objects);
  const deployments = workloads(objects).filter(({ object }) => object.kind === 'Deployment');
  const names = new Set(deployments.map(({ object }) => object.metadata.name));
  return [
    ...[...by].filter(([name]) => !names.has(name)).map(([name]) => `${name} is scaled and does not exist`),
    ...[...by].filter(([, who]) => who.length > 1).map(([name, who]) => `${name} is scaled by ${who.join(' and ')}`),
    ...deployments
      .filter((deployment) => (replicasOf(deployment) === undefined) !== by.has(deployment.object.metadata.name))
      .map(({ object }) => `${nameOf(object)} has replicas and a scaler, or neither`),
  ];
};

interface Names {
  kind: string;
  name: string;
}

function volumeNames(volume: Volume): Names[] {
  const { configMap, secret, persistentVolumeClaim, projected } = volume as {
    configMap?: { name: string };
    secret?: { secretName: string };
    persistentVolumeClaim?: { claimName: string };
    projected?: { sources: { configMap?: { name: string } }[] };
  };
  return [
    ...(configMap === undefined ? [] : [{ kind: 'ConfigMap', name: configMap.name }]),
    ...(secret === undefined ? [] : [{ kind: 'Secret', name: secret.secretName }]),
    ...(persistentVolumeClaim === undefined
      ? []
      : [{ kind: 'PersistentVolumeClaim', name: persistentVolumeClaim.claimName }]),
    ...(projected?.sources ?? []).flatMap(({ configMap: map }) =>
      map === undefined ? [] : [{ kind: 'ConfigMap', name: map.name }],
    ),
  ];
}

function containerNames({ env = [], envFrom = [] }: Container): Names[] {
  return [
    ...env.flatMap(({ valueFrom }) =>
      valueFrom?.secretKeyRef === undefined ? [] : [{ kind: 'Secret', name: valueFrom.secretKeyRef.name }],
    ),
    ...envFrom.flatMap(({ secretRef }) => (secretRef === undefined ? [] : [{ kind: 'Secret', name: secretRef.name }])),
  ];
}

/** Whatever pods name exists, or is among what the values name. */
export const references: Rule = (objects, { outside = [] }) => {
  const known = new Set(objects.map(({ kind, metadata }) => `${kind} ${metadata.name}`));
  return workloads(objects).flatMap(({ object, pod }) => {
    const claims = (object.spec?.['volumeClaimTemplates'] ?? []) as { metadata: { name: string } }[];
    const names = [
      ...(pod.volumes ?? []).flatMap(volumeNames),
      ...containersOf(pod).flatMap(containerNames),
      { kind: 'ServiceAccount', name: pod.serviceAccountName },
      ...(pod.resourceClaims ?? []).map((claim) => ({
        kind: 'ResourceClaimTemplate',
        name: claim.resourceClaimTemplateName,
      })),
    ];
    const volumes = new Set(
      [...(pod.volumes ?? []), ...claims.map(({ metadata }) => metadata)].map(({ name }) => name),
    );
    const mounts = containersOf(pod).flatMap(({ volumeMounts = [] }) => volumeMounts.map(({ name }) => name));
    return [
      ...names
        .filter(({ kind, name }) => !known.has(`${kind} ${name}`) && !outside.includes(name))
        .map(({ kind, name }) => `${nameOf(object)} names ${kind} ${name}`),
      ...mounts.filter((name) => !volumes.has(name)).map((name) => `${nameOf(object)} mounts ${name}`),
    ];
  });
};

/** Names are given once, and everything is in the release's namespace. */
export const names: Rule = (objects) => {
  const seen = new Set<string>();
  return objects.flatMap((object) => {
    const key = `${object.apiVersion} ${nameOf(object)}`;
    const twice = seen.has(key) ? [`${key} is there twice`] : [];
    seen.add(key);
    const labelled = object.metadata.labels?.['app.kubernetes.io/instance'] !== undefined;
    const ours = labelled || object.metadata.name.endsWith('-more');
    return [
      ...twice,
      ...(ours ? [] : [`${key} has no labels`]),
      ...(/^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$/.test(object.metadata.name) ? [] : [`${key} is no good name`]),
      ...(object.kind.startsWith('Cluster') ? [`${key} reaches beyond the namespace`] : []),
    ];
  });
};

/** Pods are probed where the admin server is, and given the time that their drain takes. */
export const lifecycle: Rule = (objects) =>
  workloads(objects)
    .filter(({ object }) => object.kind === 'Deployment')
    .flatMap(({ object, pod }) => {
      const [container] = pod.containers;
      if (container === undefined) return [`${nameOf(object)} has no container`];
      const { startupProbe, readinessProbe, livenessProbe } = container;
      const paths = [startupProbe, readinessProbe, livenessProbe].map((probe) => probe?.httpGet);
      return [
        ...(paths.map((probe) => probe?.path).join() === '/started,/ready,/health'
          ? []
          : [`${nameOf(object)} is probed wrongly`]),
        ...(paths.every((probe) => probe?.port === 'admin') ? [] : [`${nameOf(object)} is probed at another port`]),
        ...(pod.terminationGracePeriodSeconds >= 15 ? [] : [`${nameOf(object)} is killed too soon`]),
      ];
    });
