import { isIP } from 'node:net';
import { type Clock, fail, formatHostPort, parseHostPort } from '@guildhall/common';
import type { KvDtype } from '@guildhall/model/weights';
import type { WeightFormat } from '@guildhall/native';
import { ModelStore } from '../hub/model-store.ts';
import { durationMs } from '../ui/duration.ts';
import type { ClusterConfig, ClusterDir } from './cluster-dir.ts';
import { JOIN_PORT } from './join-client.ts';
import { formatToken } from './tokens.ts';

export interface InitFlags {
  advertise: string;
  model: string;
  servedModelName: string[];
  name: string;
  bind: string | null;
  redisPort: number;
  routerPort: number;
  workerPort: number;
  routers: number;
  workers: number;
  minWorkers: number;
  replicas: number;
  weights: WeightFormat;
  kvDtype: KvDtype;
  bf16Kernels: string;
  combine: string;
  kvMemory: string;
  threads: number | null;
  listen: string;
  ttl: string;
}

export interface JoinLine {
  /** What to run on a joining machine. */
  line: string;
  url: string;
  token: string;
  tokenId: string;
  expiresAtMs: number;
}

/**
 * Makes the cluster unless the folder has one, and a token in any case. `differences` says what was asked for and is
 * otherwise in the cluster that exists. Throws `config_invalid` and `checkpoint_not_found`.
 */
export async function initCluster(
  dir: ClusterDir,
  flags: InitFlags,
  clock: Clock,
): Promise<JoinLine & { created: boolean; differences: string[] }> {
  const ttlMs = durationMs(flags.ttl);
  const wanted = configOf(flags);
  const created = !dir.exists;
  if (created) await dir.create(wanted, clock.nowMs());
  return { created, differences: created ? [] : differences(dir.config(), wanted), ...(await joinLine(dir, ttlMs)) };
}

/** A new token, and the line that spends it. */
export async function joinLine(dir: ClusterDir, ttlMs: number): Promise<JoinLine> {
  const { host, ports } = dir.config();
  const { token, record } = await dir.tokens.create({ ttlMs, authority: dir.authority().hash });
  const url = `https://${formatHostPort(host, ports.join)}`;
  const text = formatToken(token);
  const line = `guildhall join ${url} --token ${text}`;
  return { line, url, token: text, tokenId: record.id, expiresAtMs: record.expiresAtMs };
}

function configOf(flags: InitFlags): ClusterConfig {
  const { host, port } = advertised(flags.advertise);
  const { dir: model, name } = new ModelStore(process.env).find(flags.model);
  const { routers, workers, minWorkers, replicas, weights, kvDtype, bf16Kernels, combine, kvMemory, listen } = flags;
  parseHostPort(listen);
  if (!/^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$/.test(flags.name))
    throw fail('config_invalid', '--name: letters, digits, dots, dashes and underscores', { field: 'name' });
  const bind = flags.bind ?? (isIP(host) === 0 ? '0.0.0.0' : host);
  if (isIP(bind) === 0) throw fail('config_invalid', `--bind: '${bind}' is not an address`, { field: 'bind' });
  return {
    name: flags.name,
    host,
    bind,
    ports: { join: port, redis: flags.redisPort, router: flags.routerPort, worker: flags.workerPort },
    model,
    servedModelNames: flags.servedModelName.length > 0 || name === null ? flags.servedModelName : [name],
    weights,
    kvDtype,
    bf16Kernels,
    combine,
    routers,
    workers,
    minWorkers,
    replicas,
    kvMemory,
    threads: flags.threads ?? 0,
    listen,
  };
}

/** `HOST`, `HOST:PORT`, `IPV6` or `[IPV6]:PORT`. */
function advertised(text: string): { host: string; port: number } {
  const bare = /^[^:\s]+$/.test(text) || (text.split(':').length > 2 && !text.startsWith('['));
  const { host, port } = parseHostPort(bare ? formatHostPort(text, JOIN_PORT) : text);
  if (host !== '0.0.0.0' && host !== '::') return { host, port };
  throw fail('config_invalid', `--advertise: ${host} is no address that others could reach`, { field: 'advertise' });
}

function differences(is: ClusterConfig, wanted: ClusterConfig): string[] {
  return Object.entries(wanted).flatMap(([name, value]) => {
    const [have, want] = [JSON.stringify(is[name as keyof ClusterConfig]), JSON.stringify(value)];
    return have === want ? [] : [`${name} is ${have} there, asked for was ${want}`];
  });
}
