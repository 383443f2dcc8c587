import { layerOf, type ModelShape } from './shape.ts';

/** What computes, and how fast: rates are effective ones, not those of a data sheet. */
export interface Processor {
  bytesPerSecond: number;
  flopsPerSecond: number;
}

/** A machine that experts are on. */
export interface WorkerKind extends Processor {
  name: string;
  /** For expert weights. */
  memoryBytes: number;
  /** Of a message besides its rows: parsing, copies to the device, launches. */
  usPerMessage: number;
  /** Of one expert row besides reading weights and arithmetic. */
  usPerRow: number;
  /** Deviation of the logarithm of a message's time. */
  jitter: number;
  /** Share of the messages that take far longer, and how many times as long. */
  stragglers: number;
  stragglerFactor: number;
  /** Reading weights from disk or a peer. */
  loadBytesPerSecond: number;
  numericsId: string;
}

/** A machine that a router is on. */
export interface RouterKind extends Processor {
  name: string;
  /** Of each layer besides bytes and arithmetic: two native calls, launches. */
  usPerLayer: number;
  /** Of sampling one token. */
  usPerSample: number;
  /** Cores for the event loop and for computing. */
  cores: number;
}

/** How messages travel: what one costs the router's event loop, and how long an empty one takes. */
export interface Transport {
  name: string;
  /** Of a request and its reply together. */
  usPerCall: number;
  usPerKib: number;
  latencyUs: number;
}

/** Times of a router's parts, milliseconds. */
export interface DenseTimes {
  /** Mixer and gate of a layer, for `rows` tokens of `sequences`; `depth` sums the context that each attends to. */
  mixerMs(layer: number, work: DenseWork): number;
  /** The shared expert, computed while rows are away. */
  sharedMs(layer: number, work: DenseWork): number;
  /** Head and sampling, for `logits` rows. */
  headMs(logits: number): number;
}

export interface DenseWork {
  rows: number;
  sequences: number;
  depth: number;
  /** Context that is read once for each sequence, tokens: what decode reads, and a chunk of a prompt. */
  context: number;
}

/**
 * Effective 2.5 TB/s is what an H100-class card reaches of its 3.35 TB/s; 400 TFLOPS is 40 % of its dense BF16 rate;
 * 40 µs a message covers copies to and from the card and launches. All assumed.
 */
const GPU: Processor = { bytesPerSecond: 2.5e12, flopsPerSecond: 4e14 };
/** Twelve channels of DDR5-4800 at three quarters of their 460 GB/s, and 2 TFLOPS of BF16. Assumed. */
const CPU: Processor = { bytesPerSecond: 3.5e11, flopsPerSecond: 2e12 };

const CALM = { jitter: 0.15, stragglers: 0.001, stragglerFactor: 10 };

export const WORKER_KINDS: Readonly<Record<string, WorkerKind>> = {
  gpu: {
    name: 'gpu',
    ...GPU,
    ...CALM,
    memoryBytes: 72e9,
    usPerMessage: 40,
    usPerRow: 0.02,
    loadBytesPerSecond: 3e9,
    numericsId: 'gpu',
  },
  cpu: {
    name: 'cpu',
    ...CPU,
    ...CALM,
    memoryBytes: 256e9,
    usPerMessage: 20,
    usPerRow: 0.2,
    loadBytesPerSecond: 2e9,
    numericsId: 'cpu',
  },
};

export const ROUTER_KINDS: Readonly<Record<string, RouterKind>> = {
  gpu: { name: 'gpu', ...GPU, usPerLayer: 40, usPerSample: 10, cores: 4 },
  cpu: { name: 'cpu', ...CPU, usPerLayer: 10, usPerSample: 30, cores: 4 },
};

/**
 * `grpc` is what was measured of grpc-js with one stream per worker: 27, 51 and 316 µs of the client's event loop for
 * a call of 8, 64 and 512 KiB each way, which 24 µs and 0.28 µs a KiB describe. `native` is the lane of native threads
 * that is not built yet, at a tenth of it. 50 µs of latency each way are assumed.
 */
export const TRANSPORTS: Readonly<Record<string, Transport>> = {
  grpc: { name: 'grpc', usPerCall: 24, usPerKib: 0.28, latencyUs: 50 },
  native: { name: 'native', usPerCall: 2.4, usPerKib: 0.028, latencyUs: 50 },
};

/** Payload rates of Ethernet links: 94 % of the line rate. */
export const LINKS: Readonly<Record<string, number>> = {
  '1G': 1.17e8,
  '10G': 1.17e9,
  '25G': 2.92e9,
  '100G': 1.16e10,
  '400G': 4.6e10,
};

/** Times of a router from bytes and operations: whatever takes longer counts. */
export function rooflineTimes(shape: ModelShape, kind: RouterKind): DenseTimes {
  const layerMs = (layer: number, { rows, sequences, depth, context }: DenseWork): number => {
    const part = layerOf(shape, layer);
    const bytes = part.weightBytes + 2 * sequences * part.stateBytes + context * part.bytesPerContextToken;
    const flops = rows * part.flopsPerToken + depth * part.flopsPerContextToken;
    return computeMs(kind, bytes, flops);
  };
  return {
    mixerMs: (layer, work) => layerMs(layer, work) * (1 - shape.sharedShare) + kind.usPerLayer / 1000,
    sharedMs: (layer, work) => layerMs(layer, { ...work, depth: 0, context: 0, sequences: 0 }) * shape.sharedShare,
    headMs: (logits) =>
      logits === 0
        ? 0
        : computeMs(kind, shape.headBytes, logits * shape.headFlops) + (logits * kind.usPerSample) / 1000,
  };
}

/** Milliseconds for reading bytes and computing, which overlap. */
export function computeMs(on: Processor, bytes: number, flops: number): number {
  return Math.max(bytes / on.bytesPerSecond, flops / on.flopsPerSecond) * 1000;
}
