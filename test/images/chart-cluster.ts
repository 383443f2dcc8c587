import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import type { Machine } from '../harness/namespaces.ts';
import { MachineNetwork } from '../harness/namespaces.ts';
import { until } from '../harness/wait.ts';
import { ensurePrograms } from '../k8s/index.ts';
import { PodContainer } from './pod-container.ts';
import type { RenderedChart } from './rendered-chart.ts';
import type { ImageDefaults, PodFacts } from './runtime-config.ts';

export type Component = 'controller' | 'expert' | 'router' | 'gateway';

/** Pods of the chart's laptop profile, two workers among them. */
const PODS: readonly { name: string; component: Component }[] = [
  { name: 'controller', component: 'controller' },
  { name: 'expert-a', component: 'expert' },
  { name: 'expert-b', component: 'expert' },
  { name: 'router', component: 'router' },
  { name: 'gateway', component: 'gateway' },
];

const API_KEY = 'key-of-the-image-tests';
const SECRETS = {
  'guildhall-cluster': { token: 'token-of-the-image-tests' },
  'guildhall-valkey': { password: 'password-of-the-image-tests' },
  'guildhall-api-keys': { keys: `${API_KEY} tests\n` },
};

export interface ChatAnswer {
  choices: { message: { content: string | null }; finish_reason: string }[];
  usage: { completion_tokens: number };
}

/** The pods of the chart as containers of the image, each on a machine of its own, with Valkey beside them. */
export class ChartCluster {
  readonly #network: MachineNetwork;
  readonly #valkey: ChildProcess;
  readonly #containers: Map<string, { component: Component; container: PodContainer }>;

  private constructor(network: MachineNetwork, valkey: ChildProcess) {
    this.#network = network;
    this.#valkey = valkey;
    this.#containers = new Map();
  }

  static async start(options: {
    chart: RenderedChart;
    rootfs: string;
    image: ImageDefaults;
    scratch: string;
  }): Promise<ChartCluster> {
    const { 'valkey-server': program } = await ensurePrograms(['valkey-server']);
    const names = ['valkey', 'client', ...PODS.map(({ name }) => name)];
    const network = await MachineNetwork.start(names.map((name) => ({ name })));
    const valkey = network.machine('valkey');
    const password = SECRETS['guildhall-valkey'].password;
    const server = valkey.spawn(program, ['--bind', '0.0.0.0', '--save', '', '--requirepass', password]);
    const cluster = new ChartCluster(network, server);
    try {
      const hosts = [`${valkey.ip} guildhall-valkey`];
      for (const { name, component } of PODS) {
        const machine = network.machine(name);
        const facts = factsOf(name, machine, component);
        const pod = options.chart.pod(component);
        const container = await PodContainer.start({ ...options, machine, pod, facts, hosts });
        cluster.#containers.set(name, { component, container });
      }
      for (const { name } of PODS) await cluster.#ready(name);
    } catch (error) {
      await cluster.stop();
      throw error;
    }
    return cluster;
  }

  get containers(): PodContainer[] {
    return [...this.#containers.values()].map(({ container }) => container);
  }

  of(component: Component): PodContainer[] {
    return [...this.#containers.values()].flatMap((one) => (one.component === component ? [one.container] : []));
  }

  /** A chat completion through the gateway. Throws with the answer when it is refused. */
  async chat(content: string): Promise<ChatAnswer> {
    const url = `http://${this.#network.machine('gateway').ip}:8000/v1/chat/completions`;
    const body = { model: 'tiny', max_tokens: 16, temperature: 0, messages: [{ role: 'user', content }] };
    const headers = { 'content-type': 'application/json', authorization: `Bearer ${API_KEY}` };
    const request = { method: 'POST', headers, body: JSON.stringify(body) };
    const script = `const response = await fetch(${JSON.stringify(url)}, ${JSON.stringify(request)});
      const text = await response.text();
      if (!response.ok) throw new Error(response.status + ' ' + text);
      console.log(text);`;
    return (await this.#network.machine('client').script(script)) as ChatAnswer;
  }

  async #ready(name: string): Promise<void> {
    const container = this.#containers.get(name)?.container;
    const url = `http://${this.#network.machine(name).ip}:9090/ready`;
    const script = `console.log(await fetch('${url}').then((response) => response.ok, () => false))`;
    const started = await until(
      `${name} is ready`,
      async () => {
        if (container?.running !== true) return 'ended';
        return (await this.#network.machine('client').script(script)) === true ? 'ready' : null;
      },
      120_000,
    ).catch(String);
    if (started !== 'ready') throw new Error(`${name}: ${started}\n${container?.output.slice(-4000)}`);
  }

  async stop(): Promise<void> {
    await Promise.all(this.containers.map((container) => container.end('KILL')));
    if (this.#valkey.exitCode === null) {
      this.#valkey.kill();
      await once(this.#valkey, 'exit');
    }
    await this.#network.stop();
  }
}

function factsOf(name: string, machine: Machine, component: Component): PodFacts {
  return {
    name,
    node: `node-of-${name}`,
    namespace: 'default',
    ip: machine.ip,
    secrets: SECRETS,
    // There is no API server here.
    overrides: component === 'controller' ? { GUILDHALL_KUBERNETES: 'off' } : {},
  };
}
