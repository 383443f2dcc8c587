import { type Command, Option } from 'commander';
import { Accounts, createLogger, redisRefusal, systemClock } from '@guildhall/common';
import { addClusterOptions, clusterAccess, type ClusterFlags } from './cluster-target.ts';
import { StateDir } from './state-dir.ts';

/** Flags that say whose keys, quotas and usage are meant. */
export interface AccountFlags extends ClusterFlags {
  accounts?: string;
}

/** Options of commands about keys and usage. */
export function addAccountOptions(command: Command): Command {
  return addClusterOptions(command).addOption(
    new Option(
      '--accounts <name>',
      'name that gateways were started with as --accounts (default: that of the cluster)',
    ).env('GUILDHALL_ACCOUNTS'),
  );
}

/** Runs `act` with the accounts that the flags mean. Throws `not_found` without a cluster, `redis_unavailable`, `redis_denied`. */
export async function withAccounts<T>(flags: AccountFlags, act: (accounts: Accounts) => Promise<T>): Promise<T> {
  const target = clusterAccess(flags, new StateDir(flags.stateDir ?? null), process.env);
  const { redisUrl: redis, cluster, tls, redisUser } = target;
  const { tlsCert = null, tlsKey = null, tlsCa = null } = tls ?? {};
  const access = { ...redisUser, tlsCert, tlsKey, redisCa: redisUser?.redisCa ?? tlsCa };
  const logger = createLogger({ service: 'cli', id: 'cli', level: 'silent' });
  const accounts = new Accounts({ redis, name: flags.accounts ?? cluster, access, clock: systemClock, logger });
  try {
    await accounts.start();
    return await act(accounts);
  } catch (err) {
    throw redisRefusal(accounts.redis) ?? err;
  } finally {
    accounts.close();
  }
}
