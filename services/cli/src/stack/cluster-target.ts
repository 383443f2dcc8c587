import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type Command, Option } from 'commander';
import { fail, guildhallHome, type TlsConfig } from '@guildhall/common';
import { type RunSecrets, StateDir } from './state-dir.ts';

/** Where systemd units keep their state: GUILDHALL_HOME of everything that systemd runs. */
export const SYSTEM_HOME = '/var/lib/guildhall';

/** Flags that say which cluster a command is about. */
export interface ClusterFlags {
  redis: string | null;
  cluster: string;
  stateDir: string | null;
  tlsCa: string | null;
  tlsCert: string | null;
  tlsKey: string | null;
}

/** Credentials of a cluster, with the TLS files to reach its processes. */
export type ClusterAccess = RunSecrets;

/** Options of commands that look at a cluster or change it. */
export function addClusterOptions(command: Command): Command {
  const file = (flag: string, text: string, env: string): Option =>
    new Option(`${flag} <file>`, `${text}, for a cluster with TLS`).env(env);
  return command
    .addOption(
      new Option('--redis <url>', "Redis of the cluster (default: this folder's running stack)").env('GUILDHALL_REDIS'),
    )
    .addOption(
      new Option('--cluster <name>', 'name of the cluster in that Redis').env('GUILDHALL_CLUSTER').default('default'),
    )
    .option('--state-dir <dir>', 'where run.json is (default: .guildhall)')
    .addOption(file('--tls-ca', 'authority of its certificates', 'GUILDHALL_TLS_CA'))
    .addOption(file('--tls-cert', 'own certificate', 'GUILDHALL_TLS_CERT'))
    .addOption(file('--tls-key', 'key of that certificate', 'GUILDHALL_TLS_KEY'));
}

/** Secrets of a cluster whose head runs on this machine (`guildhall cluster up`), unless another folder is meant. */
function headSecrets(flags: ClusterFlags, env: NodeJS.ProcessEnv): RunSecrets | null {
  if (flags.stateDir || env['GUILDHALL_STATE_DIR']) return null;
  return new StateDir(join(headFolder(env), 'run')).readSecrets();
}

/** Folder of the cluster whose head this machine is: a person's own, else that of the systemd unit. */
export function headFolder(env: Record<string, string | undefined>): string {
  const own = join(guildhallHome(env), 'cluster');
  const system = join(SYSTEM_HOME, 'cluster');
  return !existsSync(own) && existsSync(system) ? system : own;
}

/** Who the command is to Redis; by the environment only, as passwords on a command line can be seen by everybody. */
function redisUser(env: NodeJS.ProcessEnv): NonNullable<RunSecrets['redisUser']> {
  return {
    redisCa: env['GUILDHALL_REDIS_CA'] ?? null,
    redisUsername: env['GUILDHALL_REDIS_USERNAME'] ?? null,
    redisPassword: env['GUILDHALL_REDIS_PASSWORD'] ?? null,
    sentinelUsername: env['GUILDHALL_SENTINEL_USERNAME'] ?? null,
    sentinelPassword: env['GUILDHALL_SENTINEL_PASSWORD'] ?? null,
  };
}

/**
 * The cluster that the flags mean: the one behind `--redis`, with the token of GUILDHALL_CLUSTER_TOKEN since a command
 * line can be seen by everybody, or the stack that runs from the state folder, or the cluster whose head this machine is. Throws `not_found` when none does.
 */
export function clusterAccess(flags: ClusterFlags, state: StateDir, env: NodeJS.ProcessEnv): ClusterAccess {
  const tls: TlsConfig = {
    tlsCa: flags.tlsCa ?? null,
    tlsCert: flags.tlsCert ?? null,
    tlsKey: flags.tlsKey ?? null,
    tlsServerName: env['GUILDHALL_TLS_SERVER_NAME'] ?? null,
  };
  if (flags.redis) {
    const clusterToken = env['GUILDHALL_CLUSTER_TOKEN'] ?? '';
    return { redisUrl: flags.redis, cluster: flags.cluster, clusterToken, tls, redisUser: redisUser(env) };
  }
  const secrets = state.readSecrets() ?? headSecrets(flags, env);
  if (secrets === null)
    throw fail('not_found', `nothing is running from ${state.path}; start it with \`npm run up\`, or give --redis`);
  return { tls, ...secrets };
}
