/** Labels and annotations of what the chart installs; the one place where they are spelt. */
export const LABELS = {
  instance: 'app.kubernetes.io/instance',
  component: 'app.kubernetes.io/component',
  group: 'guildhall.dev/group',
  /** On pods: which model, weights and kernels they run. Pods of two generations never see each other. */
  generation: 'guildhall.dev/generation',
} as const;

export const ANNOTATIONS = {
  /** `paused` on a Deployment: the autoscaler leaves it alone. */
  autoscale: 'guildhall.dev/autoscale',
  deletionCost: 'controller.kubernetes.io/pod-deletion-cost',
} as const;

/** True for an object whose pods are of this cluster: its name ends with their generation. */
export function isOfCluster(labels: Readonly<Record<string, string>>, cluster: string): boolean {
  const generation = labels[LABELS.generation];
  return generation === undefined || cluster.endsWith(`-${generation}`);
}
