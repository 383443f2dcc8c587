import { fail } from '@guildhall/common';
import { loadableExperts } from '@guildhall/model';
import type { RemoteHomeOptions } from '../remote-home.ts';
import { LocalFallback } from './local-fallback.ts';

/**
 * What computes experts in this process, or null if that is off. Nothing is loaded yet. Errors: `config_invalid` when the
 * checkpoint on this machine lacks experts, or when not two of them fit into the memory for them.
 */
export function openFallback({ config, loaded, identity, logger, observer }: RemoteHomeOptions): LocalFallback | null {
  if (config.expertFallback === 'off') return null;
  const { native, runtime, reader, model } = loaded;
  const { hidden, numLayers, moe } = loaded.config;
  const lacking = loadableExperts(reader.checkpoint)?.find(({ experts }) => experts.length < moe.numExperts);
  if (lacking !== undefined) {
    const message = `the checkpoint here lacks experts of layer ${lacking.layer}: it was pulled for a router alone`;
    throw fail('config_invalid', message, { field: 'expertFallback' });
  }
  const { numExperts, intermediate } = moe;
  const shape = { numLayers, numExperts, hidden, intermediate };
  const shard = new native.ExpertShard(runtime, { ...shape, format: config.weights, rowFormat: model.rowFormat });
  const capacity = Math.floor(config.expertFallbackMemory / shard.expertBytes);
  if (capacity < 2) {
    const message = `two experts take ${2 * shard.expertBytes} bytes, --expert-fallback-memory is ${config.expertFallbackMemory}`;
    throw fail('config_invalid', message, { field: 'expertFallbackMemory' });
  }
  logger.info({ capacity }, 'experts that no worker holds are computed in this process');
  const read = (layer: number, expert: number) => reader.expert(layer, expert);
  return new LocalFallback({ id: identity.id, shard, capacity, read, native, observer, logger });
}
