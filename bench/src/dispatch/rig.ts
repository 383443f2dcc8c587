import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { Client, type ClientDuplexStream } from '@grpc/grpc-js';
import {
  authMetadata,
  channelCredentials,
  channelOptions,
  createLogger,
  createMetrics,
  openIdentityStream,
  systemClock,
} from '@guildhall/common';
import { loadNative, type MoeGate, type Runtime, type StepBuffers, type TensorSource } from '@guildhall/native';
import { control, experts } from '@guildhall/proto';
import { Calls, ExpertLoads, ExpertTopology, RemoteExperts, type RouterIdentity } from '@guildhall/router/experts';
import { DispatchPolicy } from '@guildhall/router/policy';
import { ECHO_PATH, SECURITY, SHAPE } from './shape.ts';

const WORKERS = 2;
const { hidden, numLayers, numExperts, topK, maxMessageBytes, fingerprint, numericsId } = SHAPE;
/** Rows of the largest message. */
const MAX_TOKENS = 256;

const IDENTITY: RouterIdentity = {
  routerId: 'router-1',
  incarnation: 1n,
  modelFingerprint: fingerprint,
  numericsId,
  rowFormat: experts.RowFormat.ROW_FORMAT_BF16,
  combineMode: experts.CombineMode.COMBINE_MODE_EXACT,
  maxMessageBytes,
  hiddenSize: hidden,
  numLayers,
  numExperts,
  leastMessageBytes: 8192,
};

/** A stream that gives messages back. */
interface Echo {
  call: ClientDuplexStream<Buffer, Buffer>;
  taken: (() => void) | null;
}

/** A gate that gives every token both experts. */
function makeGate(runtime: Runtime): MoeGate {
  const tensor = (rows: number, cols: number): TensorSource => {
    const data = new Uint8Array(new Float32Array(rows * cols).fill(1 / 64).buffer);
    return { dtype: 'F32', shape: [rows, cols], data, scale: null, rows: null };
  };
  const norm = { eps: 1e-6, zeroCentered: true };
  const spec = { hidden, numExperts, topK, normTopk: true, norm, format: 'bf16' } as const;
  return new (loadNative().MoeGate)(runtime, spec, { norm: tensor(hidden, 1), gate: tensor(numExperts, hidden) });
}

/** Two worker processes, and the router's side of the dispatch to them in this process. */
export class DispatchRig {
  readonly #children: ChildProcess[];
  readonly #topology: ExpertTopology;
  readonly #remote: RemoteExperts;
  readonly #step: StepBuffers;
  readonly #gate: MoeGate;
  readonly #clients: Client[] = [];
  readonly #echoes: Echo[] = [];
  #steps = 0;

  private constructor(children: ChildProcess[], addresses: readonly string[], threads: number) {
    const native = loadNative();
    const logger = createLogger({ service: 'bench', id: null, level: 'silent' });
    const clock = systemClock;
    const metrics = createMetrics('router');
    this.#children = children;
    this.#topology = new ExpertTopology({
      identity: IDENTITY,
      credentials: channelCredentials(SECURITY),
      metadata: authMetadata(SECURITY),
      clock,
      logger,
      parseReplyHeader: (frame) => native.parseReplyHeader(frame),
      onStray: () => undefined,
    });
    const replyLimitMs = { decode: 20_000, prefill: 20_000 };
    const policy = new DispatchPolicy({ clock, seed: 1, limitMs: replyLimitMs, hedgeShare: 0.03 });
    this.#remote = new RemoteExperts({
      views: this.#topology.views,
      clock,
      logger,
      loads: new ExpertLoads({ numLayers, numExperts, topK }),
      observer: {
        message: (worker, status) => metrics.count('guildhall_dispatch_messages_total', { worker, status }),
        bytes: (worker, direction, bytes) =>
          metrics.count('guildhall_dispatch_bytes_total', { worker, direction }, bytes),
        retry: () => undefined,
        rows: (worker, rows) => metrics.count('guildhall_expert_rows_total', { worker }, rows),
        layer: (lane, ms) => metrics.observe('guildhall_dispatch_seconds', ms / 1000, { lane }),
        hedge: (outcome) => metrics.count('guildhall_dispatch_hedges_total', { outcome }),
        late: (worker) => metrics.count('guildhall_dispatch_late_replies_total', { worker }),
        spread: (rows, workers) => {
          metrics.count('guildhall_dispatch_rows_total', {}, rows);
          metrics.count('guildhall_dispatch_row_workers_total', {}, workers);
        },
        failover: () => undefined,
      },
      incarnation: IDENTITY.incarnation,
      topK,
      rowBytes: hidden * 2,
      combineMode: 'exact',
      policy,
      calls: new Calls({ policy, clock, logger, replyLimitMs }),
      fallback: null,
      expertWaitMs: 20_000,
    });
    const runtime = new native.Runtime({ threads, isa: 'auto', bf16Kernels: 'auto' });
    const sizes = { maxTokens: MAX_TOKENS, hidden, numExperts, topK, maxLogitRows: 1, vocab: 16 };
    this.#step = new native.StepBuffers(runtime, { ...sizes, rowFormat: 'bf16' });
    this.#gate = makeGate(runtime);
    for (const address of addresses) this.#addEcho(address);
    this.#announce(addresses);
  }

  /** Starts the workers and connects to them; `threads` are the router's. */
  static async start(threads: number): Promise<DispatchRig> {
    const main = fileURLToPath(new URL('worker.ts', import.meta.url));
    const children = Array.from({ length: WORKERS }, (_, expert) =>
      spawn(process.execPath, [main, String(expert)], {
        stdio: ['pipe', 'pipe', 'inherit'],
        env: { ...process.env, NODE_NO_WARNINGS: '1' },
      }),
    );
    const addresses = await Promise.all(
      children.map(async (child) => {
        const [line] = (await once(child.stdout as NodeJS.EventEmitter, 'data')) as [Buffer];
        return line.toString().trim();
      }),
    );
    const rig = new DispatchRig(children, addresses, threads);
    while (!rig.#topology.views.covered) await systemClock.sleep(10);
    return rig;
  }

  async stop(): Promise<void> {
    this.#topology.close();
    for (const { call } of this.#echoes) call.cancel();
    for (const client of this.#clients) client.close();
    const exits = this.#children.map(async (child) => once(child, 'exit'));
    for (const child of this.#children) child.stdin?.end();
    await Promise.all(exits);
  }

  /** Microseconds of `repetitions` layers: `tokens` rows to each worker, their rows back, combined. */
  async layers(tokens: number, repetitions: number): Promise<number[]> {
    await this.#setBatch(tokens);
    const owners = { owner: new Int32Array(tokens), numSequences: 1 };
    const taken: number[] = [];
    const dispatch = this.#remote.begin(this.#topology.views.latest, 'decode', owners);
    for (let i = 0; i < repetitions; i++) {
      const begun = performance.now();
      this.#steps += 1;
      const ctx = { microBatch: 0, lane: 'decode', signal: null, deadlineMs: null, traceparent: null } as const;
      await dispatch.dispatch(0, this.#step, tokens, { ...ctx, step: this.#steps }).done;
      await this.#step.combine('decode');
      taken.push((performance.now() - begun) * 1000);
    }
    dispatch.close();
    return taken;
  }

  /** Microseconds of `repetitions` round trips of `bytes` bytes to every echo at once. */
  async echoes(bytes: number, repetitions: number): Promise<number[]> {
    const message = Buffer.alloc(bytes, 7);
    const taken: number[] = [];
    for (let i = 0; i < repetitions; i++) {
      const begun = performance.now();
      await Promise.all(
        this.#echoes.map((echo) => {
          echo.call.write(message);
          return new Promise<void>((resolve) => {
            echo.taken = resolve;
          });
        }),
      );
      taken.push((performance.now() - begun) * 1000);
    }
    return taken;
  }

  async #setBatch(tokens: number): Promise<void> {
    const zeros = new Int32Array(tokens);
    this.#step.setBatch({
      tokenIds: zeros,
      positions: new Int32Array(3 * tokens),
      rowStart: Int32Array.of(0),
      rowCount: Int32Array.of(tokens),
      contextLen: Int32Array.of(0),
      stateSlot: Int32Array.of(-1),
      initState: Int32Array.of(-1),
      snapshotSlot: Int32Array.of(-1),
      snapshotRows: Int32Array.of(0),
      mode: Int32Array.of(0),
      pageTable: Int32Array.from({ length: Math.ceil(tokens / 64) }, (_, page) => page),
      maxPages: Math.ceil(tokens / 64),
    });
    await this.#gate.forward(this.#step, 'decode');
  }

  #addEcho(address: string): void {
    const client = new Client(address, channelCredentials(SECURITY), channelOptions({ maxMessageBytes }));
    const echo: Echo = { call: openIdentityStream(client, ECHO_PATH, authMetadata(SECURITY)), taken: null };
    echo.call.on('data', () => echo.taken?.());
    echo.call.on('error', () => undefined);
    this.#clients.push(client);
    this.#echoes.push(echo);
  }

  #announce(addresses: readonly string[]): void {
    const members = addresses.map((address, index) => ({
      kind: 'expert',
      value: control.Member.encode(
        control.Member.fromPartial({
          id: `worker-${index}`,
          incarnation: 1n,
          address,
          modelFingerprint: fingerprint,
          numericsId,
        }),
      ).finish(),
    }));
    this.#topology.setMembers(members);
  }
}
