/**
 * The peer's process: llama.cpp as `node-llama-cpp` ships it, driven through its addon's batch calls so that
 * JavaScript takes no measurable part. Started by the harness; GUILDHALL_BENCH_PEER is where the package is installed.
 */
import { existsSync, renameSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { seconds, serveSubject } from './child.ts';
import type { SubjectEngine, SubjectInfo, SubjectSpec, Timing, Work } from './protocol.ts';
import { tokensAt } from './protocol.ts';

/** The parts of node-llama-cpp's addon that are used here. */
interface Addon {
  AddonModel: new (path: string, params: Record<string, unknown>) => AddonModel;
  AddonContext: new (model: AddonModel, params: Record<string, unknown>) => AddonContext;
  AddonSampler: new (model: AddonModel) => AddonSampler;
  systemInfo(): string;
}
interface AddonModel {
  init(): Promise<boolean>;
}
interface AddonContext {
  init(): Promise<boolean>;
  dispose(): Promise<void>;
  initBatch(size: number): void;
  addToBatch(sequence: number, position: number, tokens: Uint32Array, logits: Uint32Array): Uint32Array;
  decodeBatch(): Promise<void>;
  sampleToken(index: number, sampler: AddonSampler): Promise<number>;
  disposeSequence(sequence: number): void;
  saveSequenceStateToFile(path: string, sequence: number, tokens: Uint32Array): Promise<number>;
  loadSequenceStateFromFile(path: string, sequence: number, max: number): Promise<Uint32Array>;
}
interface AddonSampler {
  applyConfig(config: Record<string, unknown>): void;
}

/** Tokens a micro-batch of a prompt. */
const BATCH = 512;
/** Room for decoded tokens behind the deepest context. */
const ROOM = 2048;
const SEQUENCE_CONTEXT = 512;

/** The configuration that was fastest on the development machine; docs/bench.md has the figures. */
const BEST = { useMmap: false, flashAttention: true, batchSize: BATCH };

class LlamaCpp implements SubjectEngine {
  #addon: Addon | null = null;
  #model: AddonModel | null = null;
  #spec: SubjectSpec | null = null;
  /** One context for one sequence, one for many. */
  readonly #contexts = new Map<'single' | 'many', AddonContext>();
  /** Tokens that each sequence of a context holds. */
  readonly #lengths = new Map<AddonContext, number[]>();

  async load(spec: SubjectSpec): Promise<SubjectInfo> {
    const started = performance.now();
    const { addon, version } = await loadAddon();
    const { useMmap } = { ...BEST, ...spec.tuning };
    const model = new addon.AddonModel(spec.model, { addonExports: addon, gpuLayers: 0, useMmap });
    if (!(await model.init())) throw new Error(`llama.cpp cannot load ${spec.model}`);
    this.#addon = addon;
    this.#model = model;
    this.#spec = spec;
    return {
      engine: `llama.cpp (node-llama-cpp ${version})`,
      config: { ...BEST, ...spec.tuning, threads: spec.threads, cpu: addon.systemInfo() },
      loadSeconds: (performance.now() - started) / 1000,
      bytes: null,
    };
  }

  async prepare(work: Work): Promise<void> {
    if (work.kind === 'prefill') {
      await this.run({ kind: 'prefill', tokens: work.tokens });
      return;
    }
    const many = work.kind === 'batch';
    const context = await this.#context(many ? 'many' : 'single');
    if (!many) await this.#fillDeep(context, work.depth);
    else for (let s = 0; s < work.sequences; s++) await this.#fill(context, s, work.depth);
    await this.#decode(context, many ? work.sequences : 1, 2);
  }

  async run(work: Work): Promise<Timing> {
    if (work.kind === 'batch') {
      const context = await this.#context('many');
      return { seconds: await seconds(() => this.#decode(context, work.sequences, work.steps)) };
    }
    const context = await this.#context('single');
    if (work.kind === 'decode') return { seconds: await seconds(() => this.#decode(context, 1, work.steps)) };
    this.#clear(context, 0);
    const taken = await seconds(() => this.#extend(context, 0, work.tokens));
    this.#clear(context, 0);
    return { seconds: taken };
  }

  async top(tokens: number[]): Promise<number[]> {
    const context = await this.#context('single');
    this.#clear(context, 0);
    const sampler = new (this.#need(this.#addon).AddonSampler)(this.#need(this.#model));
    sampler.applyConfig({ temperature: 0 });
    context.initBatch(BATCH);
    const wanted = Uint32Array.from(tokens, (_, i) => i);
    const rows = context.addToBatch(0, 0, Uint32Array.from(tokens), wanted);
    await context.decodeBatch();
    const best: number[] = [];
    for (const row of rows) best.push(await context.sampleToken(row, sampler));
    this.#clear(context, 0);
    return best;
  }

  #need<T>(value: T | null): T {
    if (value === null) throw new Error('nothing is loaded');
    return value;
  }

  async #context(kind: 'single' | 'many'): Promise<AddonContext> {
    const found = this.#contexts.get(kind);
    if (found !== undefined) return found;
    for (const context of this.#contexts.values()) await context.dispose();
    this.#contexts.clear();
    const { sequences, depth, threads, tuning } = this.#need(this.#spec);
    const { flashAttention, batchSize } = { ...BEST, ...tuning };
    const count = kind === 'single' ? 1 : sequences;
    const contextSize = kind === 'single' ? depth + ROOM : sequences * SEQUENCE_CONTEXT;
    const context = new (this.#need(this.#addon).AddonContext)(this.#need(this.#model), {
      contextSize,
      batchSize,
      sequences: count,
      threads,
      flashAttention,
      ...tuning,
    });
    if (!(await context.init())) throw new Error('llama.cpp cannot create a context');
    this.#contexts.set(kind, context);
    this.#lengths.set(
      context,
      Array.from({ length: count }, () => 0),
    );
    return context;
  }

  #clear(context: AddonContext, sequence: number): void {
    context.disposeSequence(sequence);
    this.#need(this.#lengths.get(context) ?? null)[sequence] = 0;
  }

  /** Appends prompt tokens to a sequence. */
  async #extend(context: AddonContext, sequence: number, count: number): Promise<void> {
    const lengths = this.#need(this.#lengths.get(context) ?? null);
    const { vocab } = this.#need(this.#spec);
    for (let left = count; left > 0; left -= BATCH) {
      const tokens = Uint32Array.from(tokensAt(sequence, lengths[sequence] ?? 0, Math.min(left, BATCH), vocab));
      context.initBatch(tokens.length);
      context.addToBatch(sequence, lengths[sequence] ?? 0, tokens, Uint32Array.of(tokens.length - 1));
      await context.decodeBatch();
      lengths[sequence] = (lengths[sequence] ?? 0) + tokens.length;
    }
  }

  async #fill(context: AddonContext, sequence: number, depth: number): Promise<void> {
    this.#clear(context, sequence);
    await this.#extend(context, sequence, depth);
  }

  /**
   * A long context, from a file if one was kept. It is filled once for each model: what the KV cache and the state hold
   * has the same size whatever the weights are.
   */
  async #fillDeep(context: AddonContext, depth: number): Promise<void> {
    this.#clear(context, 0);
    if (depth === 0) return;
    const lengths = this.#need(this.#lengths.get(context) ?? null);
    const { cacheDir, tuning } = this.#need(this.#spec);
    const file = join(cacheDir, `peer-context-${depth}.state`);
    if (tuning === undefined && existsSync(file)) {
      await context.loadSequenceStateFromFile(file, 0, depth + ROOM);
      lengths[0] = depth;
      return;
    }
    await this.#extend(context, 0, depth);
    if (tuning !== undefined) return;
    const partial = `${file}.${process.pid}.part`;
    await context.saveSequenceStateToFile(partial, 0, Uint32Array.of(0));
    renameSync(partial, file);
  }

  /** `steps` tokens for each of the first `count` sequences. */
  async #decode(context: AddonContext, count: number, steps: number): Promise<void> {
    const lengths = this.#need(this.#lengths.get(context) ?? null);
    const { vocab } = this.#need(this.#spec);
    const first = Uint32Array.of(0);
    for (let step = 0; step < steps; step++) {
      context.initBatch(count);
      for (let s = 0; s < count; s++) {
        const position = lengths[s] ?? 0;
        context.addToBatch(s, position, Uint32Array.from(tokensAt(s, position, 1, vocab)), first);
        lengths[s] = position + 1;
      }
      await context.decodeBatch();
    }
  }
}

async function loadAddon(): Promise<{ addon: Addon; version: string }> {
  const home = process.env['GUILDHALL_BENCH_PEER'] ?? '';
  const require = createRequire(join(home, 'package.json'));
  const entry = require.resolve('node-llama-cpp');
  const { getLlama } = (await import(pathToFileURL(entry).href)) as {
    getLlama: (options: Record<string, unknown>) => Promise<{ _bindings: Addon }>;
  };
  const llama = await getLlama({
    gpu: false,
    build: 'never',
    skipDownload: true,
    progressLogs: false,
    logLevel: 'error',
  });
  const { version } = require(join(home, 'node_modules', 'node-llama-cpp', 'package.json')) as { version: string };
  return { addon: llama._bindings, version };
}

serveSubject(new LlamaCpp());
