/**
 * The Kubernetes test bench for people.
 *
 *   node test/k8s/main.ts binaries [GROUP...]      builds or gets the programs it runs
 *   node test/k8s/main.ts image                    makes the layers of our image from the checkout
 *   node test/k8s/main.ts up [--logs DIR]          a cluster that runs until Ctrl-C, with a KUBECONFIG for this machine
 *   node test/k8s/main.ts run [--logs DIR] -- CMD  a command inside such a cluster: KUBECONFIG is set, Services answer
 *   node test/k8s/main.ts sandbox -- CMD           a command in an empty sandbox, for tests that start a cluster themselves
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { inSandbox, runInSandbox } from '@guildhall/cli/testing';
import { type Bench, startBench } from './bench.ts';
import { ensurePrograms, type Program, programPath } from './binaries/index.ts';
import { RECIPES } from './binaries/recipes.ts';
import { addImages, imageStaged, stageImage } from './images.ts';
import { run } from './kubelet/command.ts';
import { openTunnel, TUNNEL, tunnelTo } from './tunnel.ts';

const DEFAULT_GROUPS = ['kubernetes', 'etcd', 'kwok', 'helm', 'valkey'];
const USAGE =
  'usage: node test/k8s/main.ts binaries [GROUP...] | image | up [--logs DIR] | run [--logs DIR] -- CMD... | sandbox -- CMD...\n';

const say = (line: string): void => void process.stderr.write(`k8s bench: ${line}\n`);

async function binaries(groups: readonly string[]): Promise<void> {
  for (const group of groups.length === 0 ? DEFAULT_GROUPS : groups) {
    const recipe = RECIPES[group];
    if (recipe === undefined) throw new Error(`no group '${group}'; one of: ${Object.keys(RECIPES).join(' ')}`);
    const paths = await ensurePrograms(recipe.programs as Program[], say);
    for (const path of Object.values(paths)) process.stdout.write(`${path}\n`);
  }
}

/** Runs a command here to its end with the caller's terminal. */
async function command(argv: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  const [program = '', ...args] = argv;
  const child = spawn(program, args, { stdio: 'inherit', env: { ...process.env, ...env } });
  // The first process of a sandbox gets no signal that it has no handler for; everything in the sandbox ends with it.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => process.exit(1));
  const [code] = (await once(child, 'exit')) as [number | null];
  return code ?? 1;
}

async function withBench(logs: string, work: (bench: Bench) => Promise<number>): Promise<number> {
  const bench = await startBench({ logs, kwok: true, say });
  try {
    await addImages(bench.images);
    return await work(bench);
  } finally {
    await bench.stop();
  }
}

function ctrlC(): Promise<void> {
  return new Promise((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => resolve());
  });
}

async function inside(verb: string, logs: string, argv: readonly string[]): Promise<number> {
  if (verb === 'sandbox') {
    await run('ip', ['link', 'set', 'lo', 'up']);
    return await command(argv, {});
  }
  return await withBench(logs, async ({ cluster }) => {
    if (verb === 'run') {
      const path = [programPath('helm'), programPath('kubectl')].map((file) => dirname(file));
      const env = { KUBECONFIG: cluster.kubeconfigFile, PATH: [...path, process.env['PATH']].join(delimiter) };
      return await command(argv, env);
    }
    const kubeconfig = await tunnelTo(cluster);
    say(`export KUBECONFIG=${kubeconfig}`);
    say(`output of containers: ${logs}; Ctrl-C ends the cluster`);
    await ctrlC();
    return 0;
  });
}

const [verb = '', ...rest] = process.argv.slice(2);
if (verb === 'binaries') await binaries(rest);
else if (verb === 'image') await stageImage(say);
else if (['up', 'run', 'sandbox'].includes(verb)) {
  const { values, positionals } = parseArgs({
    args: rest,
    options: { logs: { type: 'string' } },
    allowPositionals: true,
  });
  const logs = values.logs ?? process.env['GUILDHALL_K8S_LOGS'] ?? mkdtempSync(join(tmpdir(), 'guildhall-k8s-logs-'));
  if (inSandbox()) process.exit(await inside(verb, logs, positionals));
  await ensurePrograms(DEFAULT_GROUPS.flatMap((group) => RECIPES[group]?.programs ?? []) as Program[], say);
  if (verb !== 'sandbox' && !imageStaged()) await stageImage(say);
  process.env['GUILDHALL_K8S_LOGS'] = logs;
  if (verb === 'up') process.env[TUNNEL] = await openTunnel();
  process.exit(await runInSandbox(process.argv.slice(1)));
} else {
  process.stderr.write(USAGE);
  process.exitCode = 2;
}
