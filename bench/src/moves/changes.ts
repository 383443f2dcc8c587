import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { type Cluster, type ClusterOptions, until } from '@guildhall/test/harness';

/** Something that is done to a cluster under streams. */
export interface Change {
  name: string;
  about: string;
  cluster: Partial<ClusterOptions>;
  /** Makes the change and resolves when it is over: every expert is where it belongs. */
  run(cluster: Cluster): Promise<void>;
}

/** Resolves when `workers` live ones hold what the newest epoch gives them, the router plans with it, and `also` holds. */
export async function settled(cluster: Cluster, workers: number, also: () => boolean = () => true): Promise<void> {
  await until('the cluster to settle', async () => {
    const live = cluster.experts.filter((expert) => expert.running);
    const epoch = await cluster.metric(cluster.controller, 'guildhall_epoch');
    const all = [...live, ...cluster.routers];
    const acked = await Promise.all(all.map((process) => cluster.metric(process, 'guildhall_epoch')));
    const streams = await Promise.all(
      cluster.routers.map((router) => cluster.metric(router, 'guildhall_expert_streams', 'lane="decode"')),
    );
    return (
      live.length === workers && acked.every((own) => own === epoch) && streams.every((n) => n === workers) && also()
    );
  });
}

async function restart(cluster: Cluster, number: number): Promise<void> {
  const id = `expert-${number}`;
  const old = cluster.experts.find((expert) => expert.running && expert.spec.args.includes(id));
  await old?.stop(60_000);
  const started = cluster.addExpert(id);
  await started.listening();
  await settled(cluster, 3);
}

const CLI = fileURLToPath(new URL('../../../services/cli/src/main.ts', import.meta.url));

/** `guildhall drain`, as an operator runs it; returns when nobody needs the worker. */
async function drain(cluster: Cluster, worker: string): Promise<void> {
  const child = spawn(process.execPath, [CLI, 'drain', worker, '--redis', cluster.redis.url, '--cluster', 'test'], {
    stdio: 'ignore',
    env: { ...process.env, NODE_NO_WARNINGS: '1', GUILDHALL_CLUSTER_TOKEN: cluster.token },
  });
  const [code] = (await once(child, 'exit')) as [number | null];
  if (code !== 0) throw new Error(`drain ended with ${code}`);
}

export const CHANGES: readonly Change[] = [
  {
    name: 'add',
    about: 'a fourth worker joins and gets its share',
    cluster: {},
    async run(cluster) {
      await cluster.addExpert('expert-4').listening();
      await settled(cluster, 4);
    },
  },
  {
    name: 'drain',
    about: 'a worker is drained by `guildhall drain`',
    cluster: {},
    run: (cluster) => drain(cluster, 'expert-2'),
  },
  {
    name: 'rebalance',
    about: 'another controller takes over and moves experts for the measured load',
    cluster: { controllerArgs: ['--rebalance-ms', '0'] },
    async run(cluster) {
      const first = await cluster.metric(cluster.controller, 'guildhall_epoch');
      await cluster.controller.stop();
      const eager = ['--rebalance-ms', '2000', '--rebalance-threshold', '0.005', '--max-replicas', '2'];
      cluster.controller = cluster.spawn('controller', ['--id', 'controller-2', ...eager]);
      const epoch = async (): Promise<number> => await cluster.metric(cluster.controller, 'guildhall_epoch');
      await until('an epoch for the load', async () => (await epoch()) > first);
      await settled(cluster, 3);
    },
  },
  {
    name: 'stop',
    about: 'a worker is asked to stop, drains and leaves',
    cluster: {},
    async run(cluster) {
      await cluster.experts[1]?.stop(60_000);
      await settled(cluster, 2);
    },
  },
  {
    name: 'rolling-restart',
    about: 'every worker is restarted, one after the other',
    cluster: {},
    async run(cluster) {
      for (const number of [1, 2, 3]) await restart(cluster, number);
    },
  },
  {
    name: 'kill',
    about: 'a worker is killed; every expert has a replica',
    cluster: { controllerArgs: ['--replicas', '2'] },
    async run(cluster) {
      cluster.experts[1]?.kill('SIGKILL');
      await settled(cluster, 2);
    },
  },
];
