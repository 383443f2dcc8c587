import { join } from 'node:path';
import { availableParallelism } from 'node:os';
import { type Clock, errorMessage, fail, formatHostPort, VERSION } from '@guildhall/common';
import { Checkpoint } from '@guildhall/model/weights';
import { endLeftovers, Stack, type StackOptions } from '../stack/stack.ts';
import { stopRequest } from '../stack/stop-request.ts';
import { Progress } from '../ui/progress.ts';
import { type ClusterConfig, type ClusterDir, isWildcard } from './cluster-dir.ts';
import type { ClusterSettings } from './join-messages.ts';
import { JoinServer } from './join-server.ts';
import { readText } from './private-files.ts';
import { admitToRedis, headRedis } from './redis-access.ts';

const READY_EVERY_MS = 1000;

/** Ids of the head machine's own processes. */
export function headIds({ routers, workers }: Pick<ClusterConfig, 'routers' | 'workers'>): string[] {
  const numbered = (kind: string, count: number): string[] =>
    Array.from({ length: count }, (_, index) => `${kind}-${index + 1}`);
  return [...numbered('router', routers), ...numbered('expert', workers), 'controller-1', 'gateway-1', 'head'];
}

/**
 * Runs the head of a cluster until a signal: Redis, controller, routers, gateway and workers of this machine, all with
 * TLS, and the server by which other machines join. Errors leave nothing running.
 */
export async function runHead(
  dir: ClusterDir,
  options: { apiKeys: string[]; fresh: boolean; json: boolean },
  clock: Clock,
): Promise<void> {
  const config = dir.config();
  const progress = new Progress({ quiet: options.json });
  const fingerprint = Checkpoint.open(config.model).fingerprint;
  const ended = await endLeftovers(dir.state, clock);
  if (ended.length > 0) progress.done(`ended what an earlier run left behind: ${ended.join(', ')}`);
  await dir.issueHeadCertificate(clock.nowMs());
  const stack = new Stack({ ...stackOptions(dir, options.apiKeys), fresh: options.fresh }, dir.state, clock, {
    event: (message) => progress.done(message),
    progress: ({ name, what, done, total }) => progress.update(`${name}: ${what}, ${done} of ${total}`, done / total),
  });
  const stop = stopRequest(clock);
  let server: JoinServer | null = null;
  try {
    server = await startJoinServer(dir, settingsOf(dir, fingerprint, stack.model), clock, progress);
    await Promise.race([stack.start(), stop.requested]);
    if (!stop.isRequested()) {
      report(dir, server, stack, options.json);
      const ready = untilReady(stack, progress, clock, () => stop.isRequested());
      await stop.requested;
      await ready;
    }
  } finally {
    progress.done('stopping');
    await server?.stop();
    await stack.stop();
    stop.dispose();
  }
}

/** The processes of a head. */
export function stackOptions(dir: ClusterDir, apiKeys: string[]): StackOptions {
  const config = dir.config();
  const { name: cluster, bind, host, ports, bf16Kernels, combine, minWorkers, replicas } = config;
  const tls = { tlsCert: dir.certificateFile, tlsKey: dir.keyFile, tlsCa: dir.authorityFile };
  return {
    model: config.model,
    servedModelNames: config.servedModelNames,
    workers: config.workers,
    routers: config.routers,
    experts: 'remote',
    weights: config.weights,
    weightsCache: join(dir.path, 'weights'),
    kvDtype: config.kvDtype,
    kvMemory: config.kvMemory,
    kvDisk: null,
    listen: config.listen,
    apiKeys,
    threads: config.threads === 0 ? availableParallelism() : config.threads,
    coreLeases: 'on',
    network: {
      cluster,
      clusterToken: dir.secrets().clusterToken,
      bind,
      host,
      ports,
      tls,
      redis: headRedis(dir),
      controllerArgs: ['--min-workers', String(minWorkers), '--replicas', String(replicas)],
      formatArgs: ['--bf16-kernels', bf16Kernels, '--combine', combine],
    },
  };
}

function settingsOf(dir: ClusterDir, modelFingerprint: string, modelName: string): () => ClusterSettings {
  return () => {
    const { name, host, ports, weights, kvDtype, bf16Kernels, combine } = dir.config();
    const { clusterToken } = dir.secrets();
    const redis = { host, port: ports.redis };
    return { name, clusterToken, redis, weights, kvDtype, bf16Kernels, combine, modelFingerprint, modelName };
  };
}

async function startJoinServer(
  dir: ClusterDir,
  settings: () => ClusterSettings,
  clock: Clock,
  progress: Progress,
): Promise<JoinServer> {
  const { bind, host, ports, routers, workers } = dir.config();
  const [certificate, key] = [readText(dir.certificateFile), readText(dir.keyFile)];
  if (certificate === null || key === null) throw fail('internal', 'the certificate of the head was not written');
  return await JoinServer.start({
    host: bind,
    port: ports.join,
    certificate,
    key,
    authority: dir.authority(),
    tokens: dir.tokens,
    members: dir.members,
    version: VERSION,
    settings,
    reservedIds: headIds({ routers, workers }),
    headAddresses: isWildcard(bind) ? [host] : [...new Set([host, bind])],
    admit: (member) => admitToRedis(dir, member),
    clock,
    onEvent: (message) => progress.done(message),
  });
}

function report(dir: ClusterDir, server: JoinServer, stack: Stack, json: boolean): void {
  const { name, host } = dir.config();
  const joinUrl = `https://${formatHostPort(host, Number(server.address.slice(server.address.lastIndexOf(':') + 1)))}`;
  if (json) {
    process.stdout.write(`${JSON.stringify({ cluster: name, url: stack.url, joinUrl, model: stack.model })}\n`);
    return;
  }
  process.stdout.write(
    `cluster ${name} is up: ${stack.url}/v1 speaks the OpenAI API\n` +
      `machines join at ${joinUrl}; guildhall cluster token create prints the line for them\n` +
      `logs are in ${stack.logs}; Ctrl-C stops it\n`,
  );
}

/** Says once that it serves, and until then what is missing; machines may come as late as they like. */
async function untilReady(stack: Stack, progress: Progress, clock: Clock, stopped: () => boolean): Promise<void> {
  let said = '';
  while (!stopped()) {
    const answer = await fetch(`${stack.url}/ready`, { signal: AbortSignal.timeout(5000) })
      .then(async (response) => (response.ok ? 'ready' : (await response.text()).slice(0, 300)))
      .catch((err: unknown) => errorMessage(err));
    if (answer !== said) progress.done(answer === 'ready' ? 'ready: every expert is held' : `not ready yet: ${answer}`);
    if (answer === 'ready') return;
    said = answer;
    await clock.sleep(READY_EVERY_MS);
  }
}
