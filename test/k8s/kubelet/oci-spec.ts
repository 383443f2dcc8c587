import type { V1Container } from '@kubernetes/client-node';
import type { Image } from './images.ts';
import { parseQuantity } from './quantity.ts';
import type { ProcessRights } from './security.ts';
import { expandVariables } from './environment.ts';

/** A folder or file of the node that a container sees. */
export interface BindMount {
  source: string;
  destination: string;
  readonly: boolean;
}

/** Everything that a container is made of. */
export interface ContainerPlan {
  container: V1Container;
  image: Image;
  environment: ReadonlyMap<string, string>;
  rights: ProcessRights;
  mounts: readonly BindMount[];
  hostname: string;
  networkNamespace: string;
  /** Path below each cgroup controller. */
  cgroup: string;
}

const MASKED = ['/proc/acpi', '/proc/kcore', '/proc/keys', '/proc/latency_stats', '/proc/timer_list', '/proc/scsi'];
const READ_ONLY = ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'];
const CPU_PERIOD_US = 100_000;

const SYSTEM_MOUNTS = [
  { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
  { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'strictatime', 'mode=755', 'size=64m'] },
  {
    destination: '/dev/pts',
    type: 'devpts',
    source: 'devpts',
    options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'],
  },
  {
    destination: '/dev/shm',
    type: 'tmpfs',
    source: 'shm',
    options: ['nosuid', 'noexec', 'nodev', 'mode=1777', 'size=64m'],
  },
  { destination: '/sys', type: 'sysfs', source: 'sysfs', options: ['nosuid', 'noexec', 'nodev', 'ro'] },
  {
    destination: '/sys/fs/cgroup',
    type: 'cgroup',
    source: 'cgroup',
    options: ['nosuid', 'noexec', 'nodev', 'relatime', 'ro'],
  },
];

/** The command line: `command` replaces the image's entry point, `args` its command; variables are expanded. */
export function commandLine(container: V1Container, image: Image, environment: ReadonlyMap<string, string>): string[] {
  const entrypoint = container.command ?? image.entrypoint;
  const own = container.args ?? (container.command === undefined ? image.command : []);
  return [...entrypoint, ...own].map((part) => expandVariables(part, environment));
}

function resources(container: V1Container): object {
  const { limits, requests } = container.resources ?? {};
  const cpu = limits?.['cpu'];
  const share = requests?.['cpu'] ?? cpu;
  const memory = limits?.['memory'];
  return {
    devices: [{ allow: false, access: 'rwm' }],
    ...(memory === undefined ? {} : { memory: { limit: Math.floor(parseQuantity(memory)) } }),
    cpu: {
      shares: Math.max(2, Math.floor(parseQuantity(share ?? '2m') * 1024)),
      ...(cpu === undefined
        ? {}
        : { period: CPU_PERIOD_US, quota: Math.max(1000, Math.floor(parseQuantity(cpu) * CPU_PERIOD_US)) }),
    },
  };
}

/** config.json of an OCI bundle (runtime-spec 1.0.2) whose root file system is `rootfs` beside it. */
export function ociSpec(plan: ContainerPlan): object {
  const { container, image, environment, rights, mounts } = plan;
  const root = rights.uid === 0;
  const granted = rights.capabilities;
  return {
    ociVersion: '1.0.2',
    process: {
      terminal: false,
      user: { uid: rights.uid, gid: rights.gid, additionalGids: rights.additionalGids, umask: 0o022 },
      args: commandLine(container, image, environment),
      env: [...environment].map(([name, value]) => `${name}=${value}`),
      cwd: container.workingDir ?? image.workingDir,
      // As exec does for a user that is not root: nothing is effective, whatever the bounding set holds.
      capabilities: { bounding: granted, effective: root ? granted : [], permitted: root ? granted : [] },
      noNewPrivileges: rights.noNewPrivileges,
      oomScoreAdj: 500,
    },
    root: { path: 'rootfs', readonly: rights.readonlyRoot },
    hostname: plan.hostname,
    mounts: [
      ...SYSTEM_MOUNTS,
      ...mounts.map(({ source, destination, readonly }) => ({
        destination,
        type: 'bind',
        source,
        options: ['rbind', 'rprivate', readonly ? 'ro' : 'rw'],
      })),
    ],
    linux: {
      resources: resources(container),
      cgroupsPath: plan.cgroup,
      namespaces: [
        ...['pid', 'ipc', 'uts', 'mount'].map((type) => ({ type })),
        { type: 'network', path: `/run/netns/${plan.networkNamespace}` },
      ],
      ...(rights.privileged ? {} : { maskedPaths: MASKED, readonlyPaths: READ_ONLY }),
      ...(rights.seccomp === null ? {} : { seccomp: rights.seccomp }),
    },
  };
}
