import type { Metadata } from '@grpc/grpc-js';
import { authMetadata, channelCredentials, channelOptions, fromGrpc, systemClock } from '@guildhall/common';
import { router } from '@guildhall/proto';
import type { ClusterAccess } from './cluster-target.ts';

/** What a call to a router needs of the cluster's credentials. */
export type RouterAccess = Pick<ClusterAccess, 'clusterToken' | 'tls'>;

const INFO_LIMIT_MS = 3000;

function connect(address: string, access: RouterAccess): { client: router.RouterClient; metadata: Metadata } {
  const tls = access.tls ?? { tlsCert: null, tlsKey: null, tlsCa: null };
  const options = channelOptions({ maxMessageBytes: 1 << 20 });
  return {
    client: new router.RouterClient(address, channelCredentials(tls), options),
    metadata: authMetadata({ clusterToken: access.clusterToken === '' ? null : access.clusterToken }),
  };
}

/** Asks a router about itself. Errors: as the router gives them, or `peer_unavailable` when it cannot be reached. */
export async function getRouterInfo(address: string, access: RouterAccess): Promise<router.RouterInfo> {
  const { client, metadata } = connect(address, access);
  try {
    return await new Promise<router.RouterInfo>((resolve, reject) => {
      client.getInfo({}, metadata, { deadline: systemClock.nowMs() + INFO_LIMIT_MS }, (error, info) => {
        if (error !== null) reject(fromGrpc(error));
        else resolve(info);
      });
    });
  } finally {
    client.close();
  }
}

/**
 * Tells a router to drain and yields its progress until nothing is left there.
 * @param limitMs until sequences that nobody took over are cancelled; 0 takes the router's own limit.
 * Errors: as the router gives them, or `peer_unavailable` when it cannot be reached.
 */
export async function* drainRouter(
  address: string,
  access: RouterAccess,
  limitMs: number,
): AsyncGenerator<router.DrainProgress, void, undefined> {
  const { client, metadata } = connect(address, access);
  const call = client.drain({ limitMs }, metadata);
  try {
    for await (const progress of call) yield progress as router.DrainProgress;
  } catch (error) {
    throw fromGrpc(error);
  } finally {
    call.on('error', () => undefined);
    call.cancel();
    client.close();
  }
}
