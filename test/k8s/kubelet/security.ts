import type { V1Container, V1Pod, V1SecurityContext } from '@kubernetes/client-node';
import type { Image } from './images.ts';

/** What a container runtime grants by default. */
const DEFAULT_CAPABILITIES = [
  ...['AUDIT_WRITE', 'CHOWN', 'DAC_OVERRIDE', 'FOWNER', 'FSETID', 'KILL', 'MKNOD', 'NET_BIND_SERVICE', 'NET_RAW'],
  ...['SETFCAP', 'SETGID', 'SETPCAP', 'SETUID', 'SYS_CHROOT'],
];

/**
 * Calls that RuntimeDefault refuses a container without capabilities. A runtime's own profile lists what is allowed
 * instead; a program that gets by with this one may still meet a call that is on neither list.
 */
const REFUSED_CALLS = [
  ...['acct', 'add_key', 'bpf', 'chroot', 'clock_adjtime', 'clock_settime', 'create_module', 'delete_module'],
  ...['fanotify_init', 'finit_module', 'fsconfig', 'fsmount', 'fsopen', 'fspick', 'init_module', 'io_uring_enter'],
  ...['io_uring_register', 'io_uring_setup', 'ioperm', 'iopl', 'kcmp', 'kexec_file_load', 'kexec_load', 'keyctl'],
  ...['lookup_dcookie', 'mbind', 'mount', 'mount_setattr', 'move_mount', 'move_pages', 'name_to_handle_at'],
  ...['open_by_handle_at', 'open_tree', 'perf_event_open', 'pivot_root', 'process_vm_readv', 'process_vm_writev'],
  ...['quotactl', 'reboot', 'request_key', 'set_mempolicy', 'setdomainname', 'sethostname', 'setns', 'settimeofday'],
  ...['swapoff', 'swapon', 'syslog', 'umount2', 'unshare', 'userfaultfd', 'vhangup'],
];

/** A container that may not be started as it is described. */
export class RefusedContainer extends Error {}

/** Who a container's process is and what it may do, in words of the OCI runtime specification. */
export interface ProcessRights {
  uid: number;
  gid: number;
  additionalGids: number[];
  capabilities: string[];
  noNewPrivileges: boolean;
  readonlyRoot: boolean;
  privileged: boolean;
  seccomp: object | null;
}

function capabilitiesOf(context: V1SecurityContext): string[] {
  const drop = (context.capabilities?.drop ?? []).map((name) => name.replace(/^CAP_/, ''));
  const add = (context.capabilities?.add ?? []).map((name) => name.replace(/^CAP_/, ''));
  const kept = drop.includes('ALL') ? [] : DEFAULT_CAPABILITIES.filter((name) => !drop.includes(name));
  return [...new Set([...kept, ...add])].map((name) => `CAP_${name}`);
}

function seccomp(type: string | undefined): object | null {
  if (type !== 'RuntimeDefault') return null;
  return {
    defaultAction: 'SCMP_ACT_ALLOW',
    syscalls: [{ names: REFUSED_CALLS, action: 'SCMP_ACT_ERRNO', errnoRet: 1 }],
  };
}

/** The security context of a container over its pod's over its image. Throws RefusedContainer as a kubelet would. */
export function processRights(pod: V1Pod, container: V1Container, image: Image): ProcessRights {
  const outer = pod.spec?.securityContext ?? {};
  const inner = container.securityContext ?? {};
  const [imageUid = '0', imageGid = '0'] = image.user.split(':');
  const uid = inner.runAsUser ?? outer.runAsUser ?? Number(imageUid);
  const gid = inner.runAsGroup ?? outer.runAsGroup ?? Number(imageGid);
  if ((inner.runAsNonRoot ?? outer.runAsNonRoot ?? false) && uid === 0) {
    throw new RefusedContainer('container has runAsNonRoot and image will run as root');
  }
  const privileged = inner.privileged ?? false;
  return {
    uid,
    gid,
    additionalGids: [...(outer.supplementalGroups ?? []), ...(outer.fsGroup === undefined ? [] : [outer.fsGroup])],
    capabilities: capabilitiesOf(inner),
    noNewPrivileges: !(inner.allowPrivilegeEscalation ?? true),
    readonlyRoot: inner.readOnlyRootFilesystem ?? false,
    privileged,
    seccomp: privileged ? null : seccomp((inner.seccompProfile ?? outer.seccompProfile)?.type),
  };
}
