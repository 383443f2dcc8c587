import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { AppsV1Api, CoreV1Api, type V1Pod } from '@kubernetes/client-node';
import { type ApiTarget } from '@guildhall/cli/testing';
import { eventually } from '@guildhall/common/testing';
import type { Bench } from '../bench.ts';

export const CHART = 'charts/guildhall';
export const LAPTOP = 'charts/guildhall/values-laptop.yaml';

/** What Helm and kubectl wait for on a machine that computes everything itself, seconds. */
const WAIT_SECONDS = 420;
const LOG_LINES = 25;

/** An installation of the chart on a bench, and what tests do with it. */
export class Release {
  readonly name: string;
  readonly namespace: string;
  readonly core: CoreV1Api;
  readonly apps: AppsV1Api;
  readonly #bench: Bench;

  constructor(bench: Bench, name: string, namespace: string) {
    this.#bench = bench;
    this.name = name;
    this.namespace = namespace;
    this.core = bench.cluster.kubeConfig().makeApiClient(CoreV1Api);
    this.apps = bench.cluster.kubeConfig().makeApiClient(AppsV1Api);
  }

  /** Runs helm for this namespace. Throws with what it said and the state of the pods. */
  async helm(verb: string, ...args: string[]): Promise<string> {
    const { code, stdout, stderr } = await this.#bench.cluster.helm([verb, ...args, '--namespace', this.namespace]);
    assert.equal(code, 0, `helm ${verb}: ${stderr}${stdout}\n${code === 0 ? '' : await this.report()}`);
    return stdout;
  }

  /** Runs kubectl for this namespace. Throws with what it said. */
  async kubectl(...args: string[]): Promise<string> {
    const { code, stdout, stderr } = await this.#bench.cluster.kubectl(['--namespace', this.namespace, ...args]);
    assert.equal(code, 0, `kubectl ${args.join(' ')}: ${stderr}`);
    return stdout.trim();
  }

  async install(...values: string[]): Promise<void> {
    await this.helm('install', this.name, CHART, ...values, '--wait', `--timeout=${WAIT_SECONDS}s`);
  }

  async upgrade(...values: string[]): Promise<void> {
    await this.helm('upgrade', this.name, CHART, ...values, '--wait', `--timeout=${WAIT_SECONDS}s`);
  }

  async rollback(revision: number): Promise<void> {
    await this.helm('rollback', this.name, String(revision), '--wait', `--timeout=${WAIT_SECONDS}s`);
  }

  async uninstall(): Promise<void> {
    await this.helm('uninstall', this.name, '--wait', '--timeout=120s');
  }

  /** Pods of a component that are not being deleted. */
  async pods(component: string): Promise<V1Pod[]> {
    const labelSelector = `app.kubernetes.io/instance=${this.name},app.kubernetes.io/component=${component}`;
    const { items } = await this.core.listNamespacedPod({ namespace: this.namespace, labelSelector });
    return items.filter(({ metadata }) => metadata?.deletionTimestamp === undefined);
  }

  /** Waits until a Deployment has as many ready pods as it should, and no others. */
  async settled(deployment: string, replicas?: number): Promise<void> {
    const name = `${this.name}-${deployment}`;
    await eventually(
      async () => {
        const { spec, status } = await this.apps.readNamespacedDeployment({ namespace: this.namespace, name });
        const want = replicas ?? spec?.replicas ?? 1;
        return status?.readyReplicas === want && status.replicas === want && status.updatedReplicas === want;
      },
      `${name} with ${replicas ?? 'all'} ready pods`,
      WAIT_SECONDS * 1000,
    );
  }

  /** Where the API is, through the ClusterIP of its Service, with a key from its Secret. */
  async api(): Promise<ApiTarget> {
    const { namespace, name } = this;
    const { spec } = await this.core.readNamespacedService({ namespace, name });
    const { data } = await this.core.readNamespacedSecret({ namespace, name: `${name}-api-keys` });
    const apiKey = Buffer.from(data?.['api-key'] ?? '', 'base64').toString();
    const url = `http://${spec?.clusterIP}:${spec?.ports?.[0]?.port}`;
    const response = await fetch(`${url}/v1/models`, { headers: { authorization: `Bearer ${apiKey}` } });
    const models = (await response.json()) as { data: { id: string }[] };
    return { url, apiKey, model: models.data[0]?.id ?? '' };
  }

  /** Names of what is left in the namespace besides what every namespace has. */
  async leftovers(): Promise<string[]> {
    const kinds =
      'all,configmaps,secrets,serviceaccounts,roles,rolebindings,networkpolicies,poddisruptionbudgets,leases,persistentvolumeclaims';
    const names = (await this.kubectl('get', kinds, '-o', 'name')).split('\n').filter((name) => name !== '');
    return names.filter((name) => !['configmap/kube-root-ca.crt', 'serviceaccount/default'].includes(name));
  }

  /** Pods, warnings and the end of every container's output: what one wants to read when a test has failed. */
  async report(): Promise<string> {
    const ask = async (...args: string[]): Promise<string> =>
      (await this.#bench.cluster.kubectl(['--namespace', this.namespace, ...args])).stdout;
    const pods = await ask('get', 'pods', '-o', 'wide');
    const warnings = await ask('get', 'events', '--field-selector=type=Warning', '--sort-by=.lastTimestamp');
    const outputs = readdirSync(this.#bench.logs)
      .filter((file) => file.startsWith(`${this.namespace}_`))
      .map((file) => {
        const lines = readFileSync(join(this.#bench.logs, file), 'utf8').trimEnd().split('\n');
        return `── ${file}\n${lines.slice(-LOG_LINES).join('\n')}`;
      });
    return [pods, warnings.split('\n').slice(-30).join('\n'), ...outputs].join('\n');
  }
}
