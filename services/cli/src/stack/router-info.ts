import { authMetadata, channelCredentials, channelOptions, fromGrpc, systemClock } from '@guildhall/common';
import { router } from '@guildhall/proto';
import type { RunSecrets } from './state-dir.ts';

/** Asks a router about itself. Errors: as the router gives them, or `router_lost` when it cannot be reached. */
export async function getRouterInfo(address: string, secrets: RunSecrets): Promise<router.RouterInfo> {
  const security = { clusterToken: secrets.clusterToken, tlsCert: null, tlsKey: null, tlsCa: null };
  const client = new router.RouterClient(
    address,
    channelCredentials(security),
    channelOptions({ maxMessageBytes: 1 << 20 }),
  );
  try {
    return await new Promise<router.RouterInfo>((resolve, reject) => {
      client.getInfo({}, authMetadata(security), { deadline: systemClock.nowMs() + 3000 }, (error, info) => {
        if (error !== null) reject(fromGrpc(error));
        else resolve(info);
      });
    });
  } finally {
    client.close();
  }
}
