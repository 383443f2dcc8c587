/** A worker process of the dispatch bench: `worker.ts EXPERT` serves one expert, and an echo; prints its address. */
import type { ServerDuplexStream } from '@grpc/grpc-js';
import {
  bindGrpcServer,
  createGrpcServer,
  createLogger,
  createMetrics,
  NO_TRACING,
  systemClock,
} from '@guildhall/common';
import { identityBidiDefinition } from '@guildhall/common';
import { Batcher, ExpertsService, heldFrame } from '@guildhall/expert/rpc';
import { type ExpertShard, loadNative, type TensorSource } from '@guildhall/native';
import { ECHO_PATH, SECURITY, SHAPE } from './shape.ts';

const native = loadNative();
const expert = Number(process.argv[2]);
const { hidden, intermediate, numLayers, numExperts, topK, maxMessageBytes, fingerprint, numericsId } = SHAPE;

/** Small values that differ from row to row. */
function weight(rows: number, cols: number): TensorSource {
  const bits = Uint16Array.from({ length: rows * cols }, (_, i) => 0x3c00 + (i % 61));
  return { dtype: 'BF16', shape: [rows, cols], data: new Uint8Array(bits.buffer), scale: null, rows: null };
}

async function makeShard(): Promise<ExpertShard> {
  const runtime = new native.Runtime({ threads: 1, isa: 'auto', bf16Kernels: 'auto' });
  const options = { numLayers, numExperts, hidden, intermediate, format: 'bf16', rowFormat: 'bf16' } as const;
  const shard = new native.ExpertShard(runtime, options);
  const [gate, up, down] = [weight(intermediate, hidden), weight(intermediate, hidden), weight(hidden, intermediate)];
  await shard.load(0, expert, gate, up, down);
  return shard;
}

const metrics = createMetrics('expert');
const service = new ExpertsService({
  identity: {
    id: `worker-${expert}`,
    incarnation: 1n,
    fingerprint,
    numericsId,
    rowFormat: 'bf16',
    combine: 'exact',
    hidden,
    numLayers,
    numExperts,
    topK,
    maxMessageBytes,
    maxQueued: 16,
  },
  batcher: new Batcher({ target: await makeShard(), clock: systemClock, metrics, maxQueued: 16 }),
  codec: native,
  held: () => heldFrame(0, [{ layer: 0, experts: [expert] }]),
  countExpert: () => undefined,
  countMessage: () => undefined,
  logger: createLogger({ service: 'bench', id: null, level: 'silent' }),
  metrics,
  tracing: NO_TRACING,
  clock: systemClock,
});
const server = createGrpcServer(SECURITY, { maxMessageBytes });
service.addTo(server);
server.addService(
  { stream: identityBidiDefinition(ECHO_PATH) },
  {
    stream: (call: ServerDuplexStream<Buffer, Buffer>) => {
      call.on('data', (bytes: Buffer) => void call.write(bytes));
      call.on('end', () => call.end());
    },
  },
);
process.stdout.write(`${await bindGrpcServer(server, '127.0.0.1:0')}\n`);
process.stdin.on('end', () => process.exit(0)).resume();
