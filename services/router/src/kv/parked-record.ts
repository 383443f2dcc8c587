import type { ParkedRecord } from './parked.ts';
import type { Checksum } from './peer/blob-assembly.ts';
import { heldKey, releaseRecord, type SequenceRecord } from './sequence-record.ts';
import type { BlobStore } from './tiers/blob-store.ts';

/** A record of the store in the form in which it is given to another router. */
export function parkedRecord(
  record: SequenceRecord,
  store: Pick<BlobStore, 'hold' | 'held' | 'release'>,
  checksum: Checksum,
): ParkedRecord {
  const read = async (what: number | 'state'): Promise<{ data: Uint8Array; checksum: number } | null> => {
    const data = await store.held(heldKey(record, what));
    if (data === null) return null;
    const [crc = 0] = await checksum([data]);
    return { data, checksum: crc };
  };
  return {
    numComputed: record.numComputed,
    tokenDigest: record.tokenDigest,
    numPages: record.numPages,
    firstOwnPage: record.firstOwnPage,
    page: read,
    state: async () => (record.hasState ? await read('state') : null),
    release: () => releaseRecord(record, store),
  };
}
