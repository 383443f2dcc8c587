import { join } from 'node:path';
import { type Credentials, SERVICE_RANGE } from './credentials.ts';

/** Ports on loopback that one control plane uses. */
export interface Ports {
  etcd: number;
  etcdPeer: number;
  api: number;
  controllers: number;
  scheduler: number;
  kwok: number;
}

/** Flags of etcd. Nothing survives the bench, so nothing is forced to disk. */
export function etcdFlags(folder: string, ports: Ports): string[] {
  const client = `http://127.0.0.1:${ports.etcd}`;
  const peer = `http://127.0.0.1:${ports.etcdPeer}`;
  return [
    `--data-dir=${join(folder, 'etcd')}`,
    `--listen-client-urls=${client}`,
    `--advertise-client-urls=${client}`,
    `--listen-peer-urls=${peer}`,
    `--initial-advertise-peer-urls=${peer}`,
    `--initial-cluster=default=${peer}`,
    '--unsafe-no-fsync',
    '--log-level=warn',
  ];
}

/**
 * Flags of the API server. Admission is what Kubernetes turns on by default, PodSecurity among it.
 * @param advertise address that pods reach it at through the Service `kubernetes`; null where there are no pods.
 */
export function apiFlags(credentials: Credentials, ports: Ports, advertise: string | null): string[] {
  return [
    `--etcd-servers=http://127.0.0.1:${ports.etcd}`,
    `--bind-address=${advertise === null ? '127.0.0.1' : '0.0.0.0'}`,
    `--advertise-address=${advertise ?? '127.0.0.1'}`,
    `--secure-port=${ports.api}`,
    ...(advertise === null ? ['--endpoint-reconciler-type=none'] : []),
    `--tls-cert-file=${credentials.certificateFile}`,
    `--tls-private-key-file=${credentials.keyFile}`,
    '--authorization-mode=Node,RBAC',
    `--token-auth-file=${credentials.tokensFile}`,
    '--allow-privileged=true',
    `--service-cluster-ip-range=${SERVICE_RANGE}`,
    '--service-account-issuer=https://kubernetes.default.svc.cluster.local',
    `--service-account-key-file=${credentials.serviceAccountKeyFile}`,
    `--service-account-signing-key-file=${credentials.serviceAccountKeyFile}`,
    '--kubelet-preferred-address-types=InternalIP',
    // A lost node's pods are replaced after seconds, not after five minutes.
    '--default-not-ready-toleration-seconds=5',
    '--default-unreachable-toleration-seconds=5',
    '--enable-priority-and-fairness=false',
    '--profiling=false',
  ];
}

/** Flags of the controller manager: every controller, with the waits of nodes and of the HPA cut to seconds. */
export function controllerFlags(kubeconfig: string, credentials: Credentials, ports: Ports): string[] {
  return [
    `--kubeconfig=${kubeconfig}`,
    '--leader-elect=false',
    '--bind-address=127.0.0.1',
    `--secure-port=${ports.controllers}`,
    `--service-account-private-key-file=${credentials.serviceAccountKeyFile}`,
    `--root-ca-file=${credentials.caFile}`,
    '--use-service-account-credentials=true',
    '--kube-api-qps=100',
    '--kube-api-burst=200',
    '--node-monitor-period=1s',
    '--node-monitor-grace-period=10s',
    '--node-startup-grace-period=10s',
    '--horizontal-pod-autoscaler-sync-period=2s',
    '--horizontal-pod-autoscaler-downscale-stabilization=10s',
    '--horizontal-pod-autoscaler-initial-readiness-delay=2s',
    '--profiling=false',
  ];
}

/** Flags of the scheduler. */
export function schedulerFlags(kubeconfig: string, ports: Ports): string[] {
  return [
    `--kubeconfig=${kubeconfig}`,
    '--leader-elect=false',
    '--bind-address=127.0.0.1',
    `--secure-port=${ports.scheduler}`,
    '--kube-api-qps=100',
    '--kube-api-burst=200',
    '--profiling=false',
  ];
}

/** Flags of kwok, which plays the kubelet of every Node with the annotation `kwok.x-k8s.io/node: fake`. */
export function kwokFlags(kubeconfig: string, stages: string, ports: Ports): string[] {
  return [
    `--kubeconfig=${kubeconfig}`,
    `--config=${stages}`,
    '--manage-all-nodes=false',
    '--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake',
    '--cidr=10.245.0.0/16',
    '--node-ip=10.245.0.1',
    `--server-address=127.0.0.1:${ports.kwok}`,
    '--node-lease-duration-seconds=40',
  ];
}
