import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { parseAllDocuments } from 'yaml';
import { ROOT } from '../harness/service-process.ts';
import { ensurePrograms } from '../k8s/index.ts';

/** What the tests read of a pod of the chart; the field names are Kubernetes'. */
export interface PodSpec {
  containers: ContainerSpec[];
  volumes?: VolumeSpec[];
  securityContext?: PodSecurity;
}

export interface PodSecurity {
  runAsUser?: number;
  runAsGroup?: number;
  fsGroup?: number;
  seccompProfile?: { type: string };
}

export interface ContainerSpec {
  name: string;
  command?: string[];
  args?: string[];
  env?: EnvironmentSpec[];
  volumeMounts?: { name: string; mountPath: string; readOnly?: boolean }[];
  resources?: { limits?: { memory?: string } };
  securityContext?: {
    allowPrivilegeEscalation?: boolean;
    readOnlyRootFilesystem?: boolean;
    capabilities?: { drop?: string[]; add?: string[] };
  };
}

export interface EnvironmentSpec {
  name: string;
  value?: string;
  valueFrom?: { fieldRef?: { fieldPath: string }; secretKeyRef?: { name: string; key: string } };
}

export interface VolumeSpec {
  name: string;
  emptyDir?: object;
  secret?: { secretName: string; defaultMode?: number; items?: { key: string; path: string }[] };
  configMap?: { name: string };
  projected?: { sources: { configMap?: { name: string } }[] };
}

interface Manifest {
  kind: string;
  metadata: { name: string; labels?: Record<string, string> };
  data?: Record<string, string>;
  spec?: { template: { metadata: { labels: Record<string, string> }; spec: PodSpec } };
}

/** The chart as Helm renders it for a laptop. */
export class RenderedChart {
  readonly #manifests: readonly Manifest[];

  private constructor(manifests: readonly Manifest[]) {
    this.#manifests = manifests;
  }

  static async render(): Promise<RenderedChart> {
    const { helm } = await ensurePrograms(['helm']);
    const chart = join(ROOT, 'charts', 'guildhall');
    const text = execFileSync(helm, ['template', 'guildhall', chart, '--values', join(chart, 'values-laptop.yaml')], {
      encoding: 'utf8',
    });
    return new RenderedChart(
      parseAllDocuments(text).flatMap((document) => {
        const manifest = document.toJS() as Manifest | null;
        return manifest === null ? [] : [manifest];
      }),
    );
  }

  /** The pod of the one Deployment of a component. */
  pod(component: string): PodSpec {
    const [found, ...more] = this.#manifests.filter(
      ({ kind, spec }) =>
        kind === 'Deployment' && spec?.template.metadata.labels['app.kubernetes.io/component'] === component,
    );
    if (found?.spec === undefined || more.length > 0) throw new Error(`not one Deployment of ${component}`);
    return found.spec.template.spec;
  }

  /** Files of a ConfigMap by name. */
  configMap(name: string): Record<string, string> {
    const found = this.#manifests.find(({ kind, metadata }) => kind === 'ConfigMap' && metadata.name === name);
    if (found?.data === undefined) throw new Error(`no ConfigMap ${name}`);
    return found.data;
  }
}
