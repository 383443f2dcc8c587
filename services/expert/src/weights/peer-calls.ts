import type { ClientReadableStream, Metadata } from '@grpc/grpc-js';
import { type Clock, fail, pacedReplies } from '@guildhall/common';
import { ExpertBytes, rangesSize, sha256Hex, type TensorRange } from '@guildhall/model/weights';
import type { weights } from '@guildhall/proto';
import { type Checksum, PART_BYTES, transferFault } from './wire.ts';

/** One peer as calls need it. */
export interface PeerCalls {
  client: weights.WeightsClient;
  metadata: Metadata;
  fingerprint: string;
  checksum: Checksum;
  clock: Clock;
  /** Time between two messages, milliseconds; the receiver's own pauses do not count. */
  stallMs: number;
  /** Time of a whole call, milliseconds. */
  limitMs: number;
  signal: AbortSignal;
  /** Called after each part; resolves when the next one may come. */
  paced: (bytes: number) => Promise<void>;
}

/** Messages of a call; a peer that is too slow is a fault of wire.ts. */
function messagesOf<T>(call: ClientReadableStream<T>, limits: PeerCalls): AsyncGenerator<T, void, void> {
  return pacedReplies(call, { ...limits, stalled: (message) => transferFault('stalled', message) });
}

/** Bytes that arrive in parts with a checksum each. */
class Parts {
  readonly #data: Uint8Array<ArrayBuffer>;
  readonly #views: Uint8Array[] = [];
  readonly #checksums: number[] = [];
  #filled = 0;

  constructor(size: number) {
    // Memory of its own: it is handed on to native threads.
    this.#data = new Uint8Array(Buffer.allocUnsafeSlow(size).buffer);
  }

  /** Errors: `corrupt` for more bytes than were promised, or an empty or oversized part. */
  add({ data, crc32c }: weights.FilePart): void {
    const missing = this.#data.length - this.#filled;
    if (data.length === 0 || data.length > PART_BYTES || data.length > missing) {
      throw transferFault('corrupt', `${data.length} bytes came where ${missing} were missing`);
    }
    this.#data.set(data, this.#filled);
    this.#views.push(this.#data.subarray(this.#filled, (this.#filled += data.length)));
    this.#checksums.push(crc32c);
  }

  /** The bytes, once complete. Errors: `corrupt`. */
  async finish(checksum: Checksum, sha256: Uint8Array): Promise<Uint8Array> {
    if (this.#filled !== this.#data.length) {
      throw transferFault('corrupt', `it ended after ${this.#filled} of ${this.#data.length} bytes`);
    }
    const found = await checksum(this.#views);
    const wrong = this.#checksums.findIndex((wanted, i) => found[i] !== wanted);
    if (wrong >= 0) throw transferFault('corrupt', `the CRC-32C of part ${wrong} is wrong`);
    if ((await sha256Hex(this.#data)) !== Buffer.from(sha256).toString('hex')) {
      throw transferFault('corrupt', 'the SHA-256 of the whole is wrong');
    }
    return this.#data;
  }
}

/** What a peer's checkpoint is made of. Errors: faults of wire.ts, `cancelled`. */
export function describePeer(peer: PeerCalls): Promise<weights.DescribeReply> {
  const { client, metadata, fingerprint, clock, stallMs, signal } = peer;
  return new Promise((resolve, reject) => {
    const call = client.describe({ modelFingerprint: fingerprint }, metadata, (err, reply) => {
      limit.cancel();
      signal.removeEventListener('abort', cancel);
      if (err === null) resolve(reply);
      else reject(signal.aborted ? fail('cancelled', 'no longer wanted') : err);
    });
    const cancel = (): void => call.cancel();
    const limit = clock.setTimer(stallMs, cancel);
    signal.addEventListener('abort', cancel, { once: true });
    if (signal.aborted) cancel();
  });
}

/**
 * One of the files that a peer's description lists, compared with it.
 * Errors: faults of wire.ts, `cancelled`.
 */
export async function fetchFile(
  peer: PeerCalls,
  { name, size, sha256 }: { name: string; size: number; sha256: Uint8Array },
): Promise<Uint8Array> {
  const parts = new Parts(size);
  const call = peer.client.fetchFile({ modelFingerprint: peer.fingerprint, name }, peer.metadata);
  for await (const part of messagesOf(call, peer)) {
    parts.add(part);
    await peer.paced(part.data.length);
  }
  return parts.finish(peer.checksum, sha256);
}

/**
 * One expert from a peer, compared with its checksums.
 * @param ranges what the expert is made of; a peer that sends another size is wrong.
 * Errors: faults of wire.ts, `cancelled`.
 */
export async function fetchExpert(
  peer: PeerCalls,
  { layer, expert }: weights.ExpertAddress,
  ranges: readonly TensorRange[],
): Promise<ExpertBytes> {
  const size = rangesSize(ranges);
  const request = { modelFingerprint: peer.fingerprint, experts: [{ layer, expert }] };
  let parts: Parts | null = null;
  for await (const { part } of messagesOf(peer.client.fetchExperts(request, peer.metadata), peer)) {
    if (part?.$case === 'absent')
      throw transferFault('absent', `it does not have it: ${part.value.reason.slice(0, 200)}`);
    if (part?.$case === 'head' && parts === null) {
      checkHead(part.value, { layer, expert }, size);
      parts = new Parts(size);
    } else if (part?.$case === 'data' && parts !== null) {
      parts.add(part.value);
      await peer.paced(part.value.data.length);
    } else if (part?.$case === 'end' && parts !== null) {
      const data = await parts.finish(peer.checksum, part.value.sha256);
      return new ExpertBytes({ layer, expert }, ranges, data);
    } else {
      throw transferFault('corrupt', `a ${part?.$case ?? 'message without a part'} came out of turn`);
    }
  }
  throw transferFault('corrupt', 'it ended before the end of the expert');
}

function checkHead(head: weights.ExpertHead, wanted: weights.ExpertAddress, size: number): void {
  if (head.expert?.layer !== wanted.layer || head.expert.expert !== wanted.expert) {
    throw transferFault('corrupt', `expert ${head.expert?.expert} of layer ${head.expert?.layer} came instead`);
  }
  if (head.size !== BigInt(size))
    throw transferFault('corrupt', `an expert of ${head.size} bytes, it must have ${size}`);
}
