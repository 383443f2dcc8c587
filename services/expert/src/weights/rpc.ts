import type { ServerWritableStream } from '@grpc/grpc-js';
import {
  type Clock,
  type ErrorCode,
  errorMessage,
  fail,
  type Logger,
  type Metrics,
  PacedCall,
  toGrpc,
  toGuildhallError,
} from '@guildhall/common';
import { type CheckpointFiles, type ExpertBytes, sha256Hex } from '@guildhall/model/weights';
import type { weights } from '@guildhall/proto';
import type { LayerExperts } from '../shard.ts';
import { type Checksum, MAX_EXPERTS_PER_FETCH, PART_BYTES, partsOf } from './wire.ts';

export interface WeightsRpcOptions {
  fingerprint: string;
  files: CheckpointFiles;
  /** Experts that are stored here; null where all are. */
  stored: () => LayerExperts[] | null;
  /** An expert as it is stored here; null where it is not. Errors: those of files. */
  read: (layer: number, expert: number) => Promise<ExpertBytes | null>;
  checksum: Checksum;
  clock: Clock;
  metrics: Metrics;
  logger: Logger;
  /** Transfers at a time; more are refused. */
  maxTransfers: number;
  /** Largest message that may be sent. */
  maxMessageBytes: number;
  /** Time after which a reader that takes nothing is cut off, milliseconds. */
  readerLimitMs: number;
}

/** Bytes of a message beside its part. */
const OVERHEAD_BYTES = 256;

const OUTCOMES: Partial<Record<ErrorCode, string>> = {
  fingerprint_mismatch: 'refused',
  invalid_value: 'refused',
  not_found: 'refused',
  overloaded: 'overloaded',
  cancelled: 'cancelled',
  deadline_exceeded: 'stalled',
};

type Send<Reply> = (message: Reply) => Promise<void>;

/** The Weights service: gives other workers what is stored here. */
export function weightsRpc(options: WeightsRpcOptions): weights.WeightsServer {
  const turns = new TransferTurns(options);
  return {
    describe: (call, reply) => {
      describe(options, call.request).then(
        (answer) => reply(null, answer),
        (err: unknown) => reply(toGrpc(err)),
      );
    },
    fetchFile: (call) => turns.serve(call, (send) => sendFile(options, call.request, send)),
    fetchExperts: (call) =>
      turns.serve(call, async (send) => {
        checkFingerprint(options, call.request.modelFingerprint);
        if (call.request.experts.length > MAX_EXPERTS_PER_FETCH) {
          throw fail('invalid_value', `at most ${MAX_EXPERTS_PER_FETCH} experts at a time`, { field: 'experts' });
        }
        for (const address of call.request.experts) await sendExpert(options, address, send);
      }),
  };
}

/** Bounds the transfers, and counts how they end. */
class TransferTurns {
  readonly #options: WeightsRpcOptions;
  #running = 0;

  constructor(options: WeightsRpcOptions) {
    this.#options = options;
  }

  serve<Request, Reply>(call: ServerWritableStream<Request, Reply>, body: (send: Send<Reply>) => Promise<void>): void {
    const { maxTransfers, metrics } = this.#options;
    const paced = new PacedCall(call, this.#options);
    if (this.#running >= maxTransfers) {
      return this.#refuse(paced, fail('overloaded', `${this.#running} transfers of weights run, which is the limit`));
    }
    this.#running += 1;
    // A caller that is gone gives its place back, whatever the disk is doing.
    Promise.race([body((message) => paced.write(message)), paced.stopped])
      .then(() => paced.end())
      .then(
        () => metrics.count('guildhall_weight_transfers_total', { outcome: 'complete' }),
        (err: unknown) => this.#refuse(paced, err),
      )
      .finally(() => (this.#running -= 1));
  }

  #refuse(paced: PacedCall<never> | PacedCall<unknown>, err: unknown): void {
    const outcome = OUTCOMES[toGuildhallError(err).code] ?? 'failed';
    this.#options.metrics.count('guildhall_weight_transfers_total', { outcome });
    if (outcome === 'failed') this.#options.logger.warn({ reason: errorMessage(err) }, 'a transfer of weights failed');
    paced.fail(err);
  }
}

function checkFingerprint({ fingerprint }: WeightsRpcOptions, given: string): void {
  if (given === fingerprint) return;
  throw fail('fingerprint_mismatch', `this worker has ${fingerprint}, asked for was ${given.slice(0, 256)}`, {
    field: 'model_fingerprint',
  });
}

async function describe(options: WeightsRpcOptions, request: weights.DescribeRequest): Promise<weights.DescribeReply> {
  if (request.modelFingerprint !== '') checkFingerprint(options, request.modelFingerprint);
  const stored = options.stored();
  const files = await options.files.list();
  return {
    modelFingerprint: options.fingerprint,
    files: files.map(({ name, size, sha256 }) => ({ name, size: BigInt(size), sha256: Buffer.from(sha256, 'hex') })),
    partial: stored !== null,
    stored: stored ?? [],
  };
}

async function sendFile(
  options: WeightsRpcOptions,
  { modelFingerprint, name }: weights.FetchFileRequest,
  send: Send<weights.FilePart>,
): Promise<void> {
  checkFingerprint(options, modelFingerprint);
  for (const part of await checkedParts(options, await options.files.read(name))) await send(part);
}

async function sendExpert(
  options: WeightsRpcOptions,
  address: weights.ExpertAddress,
  send: Send<weights.ExpertReply>,
): Promise<void> {
  const { layer, expert } = address;
  let reason = 'it is not stored here';
  const bytes = await options.read(layer, expert).catch((err: unknown) => {
    reason = errorMessage(err);
    return null;
  });
  if (bytes === null) return send({ part: { $case: 'absent', value: { expert: address, reason } } });
  const { data } = bytes;
  await send({ part: { $case: 'head', value: { expert: address, size: BigInt(data.length) } } });
  for (const part of await checkedParts(options, data)) await send({ part: { $case: 'data', value: part } });
  options.metrics.count('guildhall_weight_sent_bytes_total', {}, data.length);
  await send({ part: { $case: 'end', value: { sha256: Buffer.from(await sha256Hex(data), 'hex') } } });
}

async function checkedParts(options: WeightsRpcOptions, bytes: Uint8Array): Promise<weights.FilePart[]> {
  const parts = partsOf(bytes, Math.min(PART_BYTES, options.maxMessageBytes - OVERHEAD_BYTES));
  const checksums = await options.checksum(parts);
  return parts.map((part, i) => ({
    data: Buffer.from(part.buffer, part.byteOffset, part.byteLength),
    crc32c: checksums[i] ?? 0,
  }));
}
