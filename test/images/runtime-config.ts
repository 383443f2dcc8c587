import { engineSeccomp } from './seccomp.ts';
import type { ContainerSpec, EnvironmentSpec, PodSpec } from './rendered-chart.ts';

/** What a kubelet knows of a pod beside its specification. */
export interface PodFacts {
  name: string;
  node: string;
  namespace: string;
  ip: string;
  /** Secrets by name, then by key. */
  secrets: Readonly<Record<string, Readonly<Record<string, string>>>>;
  /** Values that go before those of the chart. */
  overrides?: Readonly<Record<string, string>>;
}

/** A folder or file of the host at a path of the container. */
export interface Bind {
  source: string;
  target: string;
  writable: boolean;
}

/** What an image's configuration says about its processes. */
export interface ImageDefaults {
  Env: string[];
  WorkingDir: string;
}

/**
 * The configuration of an OCI runtime for the first container of a pod: its security context, environment, memory limit
 * and mounts, as a container engine derives them. The network is the one that the runtime is started in.
 * @throws Error for what such a pod would not be admitted or not be started with.
 */
export function runtimeConfig(pod: PodSpec, facts: PodFacts, image: ImageDefaults, binds: readonly Bind[]): object {
  const [container] = pod.containers;
  if (container === undefined) throw new Error('a pod without containers');
  const security = container.securityContext ?? {};
  const { runAsUser: uid, runAsGroup: gid, fsGroup, seccompProfile } = pod.securityContext ?? {};
  if (uid === undefined || gid === undefined) throw new Error(`${container.name} has no runAsUser and runAsGroup`);
  return {
    ociVersion: '1.0.2',
    process: {
      user: { uid, gid, additionalGids: fsGroup === undefined ? [] : [fsGroup] },
      args: [...(container.command ?? []), ...(container.args ?? [])],
      env: [...image.Env, ...environmentOf(container.env ?? [], facts)],
      cwd: image.WorkingDir,
      capabilities: capabilitiesOf(security.capabilities),
      noNewPrivileges: security.allowPrivilegeEscalation === false,
    },
    root: { path: 'rootfs', readonly: security.readOnlyRootFilesystem === true },
    hostname: facts.name,
    mounts: [...KERNEL_MOUNTS, ...binds.map(bindMount)],
    linux: {
      cgroupsPath: `/guildhall-images/${facts.name}`,
      resources: { memory: { limit: memoryBytes(container) }, pids: { limit: 512 } },
      namespaces: ['pid', 'ipc', 'uts', 'mount', 'cgroup'].map((type) => ({ type })),
      ...(seccompProfile?.type === 'RuntimeDefault' ? { seccomp: engineSeccomp() } : {}),
      maskedPaths: ['/proc/kcore', '/proc/keys', '/proc/timer_list', '/sys/firmware'],
      readonlyPaths: ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'],
    },
  };
}

const KERNEL_MOUNTS = [
  { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
  { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'mode=755', 'size=65536k'] },
  { destination: '/dev/pts', type: 'devpts', source: 'devpts', options: ['nosuid', 'noexec', 'newinstance'] },
  { destination: '/dev/shm', type: 'tmpfs', source: 'shm', options: ['nosuid', 'noexec', 'nodev', 'size=65536k'] },
  { destination: '/sys', type: 'sysfs', source: 'sysfs', options: ['nosuid', 'noexec', 'nodev', 'ro'] },
];

function bindMount({ source, target, writable }: Bind): object {
  return { destination: target, type: 'bind', source, options: ['rbind', writable ? 'rw' : 'ro', 'nosuid', 'nodev'] };
}

/** Sets of capabilities; engines start from a default set, of which a pod that drops ALL keeps nothing. */
function capabilitiesOf(given: { drop?: string[]; add?: string[] } | undefined): object {
  if (!(given?.drop ?? []).includes('ALL')) throw new Error('the container does not drop ALL capabilities');
  const kept = (given?.add ?? []).map((name) => `CAP_${name}`);
  return { bounding: kept, effective: kept, permitted: kept, inheritable: [], ambient: [] };
}

/** Memory limit in bytes; the chart gives it in MiB or GiB. */
function memoryBytes({ name, resources }: ContainerSpec): number {
  const match = /^(\d+)(Mi|Gi)$/.exec(resources?.limits?.memory ?? '');
  if (match === null) throw new Error(`${name} has no memory limit in Mi or Gi`);
  return Number(match[1]) * (match[2] === 'Gi' ? 2 ** 30 : 2 ** 20);
}

/** `NAME=value` lines; `$(NAME)` stands for the value of a variable before it. */
function environmentOf(variables: readonly EnvironmentSpec[], facts: PodFacts): string[] {
  const values = new Map<string, string>();
  for (const variable of variables) {
    const given = variable.value ?? valueFrom(variable, facts);
    values.set(
      variable.name,
      given.replaceAll(/\$\((\w+)\)/g, (whole, name: string) => values.get(name) ?? whole),
    );
  }
  for (const [name, value] of Object.entries(facts.overrides ?? {})) values.set(name, value);
  return [...values].map(([name, value]) => `${name}=${value}`);
}

function valueFrom({ name, valueFrom: from }: EnvironmentSpec, facts: PodFacts): string {
  const fields: Readonly<Record<string, string>> = {
    'metadata.name': facts.name,
    'metadata.namespace': facts.namespace,
    'spec.nodeName': facts.node,
    'status.podIP': facts.ip,
  };
  const value =
    from?.fieldRef === undefined
      ? facts.secrets[from?.secretKeyRef?.name ?? '']?.[from?.secretKeyRef?.key ?? '']
      : fields[from.fieldRef.fieldPath];
  if (value === undefined) throw new Error(`${name}: no value for ${JSON.stringify(from)}`);
  return value;
}
