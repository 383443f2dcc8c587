import { stepBufferBytes } from '@guildhall/model/weights';
import { EXPERT_BASE_BYTES, ROUTER_BASE_BYTES } from '../catalogue/host-costs.ts';
import { type Layout, numWorkers, type PlannedModel } from './layout.ts';
import type { Machine } from './machines.ts';

/** Part of a machine's memory that processes may take: the rest is the system's, page tables, fragmentation. */
const USABLE = 0.92;
/** Snapshots beside the KV cache unless they are set: a quarter of its size, and at least four (load-model.ts). */
const SNAPSHOT_SHARE = 4;
const LEAST_SNAPSHOTS = 4;
/** KV cache above what is needed for the users, on machines whose memory others use too. */
const KV_ROOM = 1.25;
const LEAST_KV_BYTES = 256 * 2 ** 20;
const PAGE_TOKENS = 64;
/** Logit rows of a prefill step (load-model.ts). */
const PREFILL_LOGIT_ROWS = 64;
/** Mappings of the native heap, and the largest block in them (native/src/slab_heap.cpp). */
const SLAB_BYTES = 64 * 2 ** 20;
const LARGEST_BLOCK = 16 * 2 ** 20;
const HUGE_PAGE = 2 * 2 ** 20;

/** Memory of one router, bytes. */
export interface RouterMemory {
  /** Dense weights, and the experts where they are local. */
  weights: number;
  kv: number;
  states: number;
  snapshots: number;
  buffers: number;
  /** Runtime, code, heap of JavaScript. */
  base: number;
  total: number;
  limit: number;
  /** Tokens of context that the KV cache holds. */
  kvTokens: number;
  /** Sequences at a time; each has a state of its own. */
  maxRunning: number;
}

/** Memory of one worker, bytes. */
export interface WorkerMemory {
  experts: number;
  /** Experts that it holds, all layers together. */
  numExperts: number;
  /** Unused rests of the native heap's mappings. */
  waste: number;
  base: number;
  total: number;
  limit: number;
}

/** Memory for processes of a machine. */
export function limitOf(machine: Machine): number {
  return Math.floor(machine.memoryBytes * USABLE);
}

/** Pages of a sequence of `context` tokens, in tokens. */
export function pagedTokens(context: number): number {
  return Math.ceil(context / PAGE_TOKENS) * PAGE_TOKENS;
}

/** What a router takes before it holds a sequence. */
function fixedBytes(layout: Layout, maxRunning: number): { weights: number; buffers: number; base: number } {
  const { model, groups, settings } = layout;
  const { print, config } = model;
  const local = groups.length === 0;
  const weights = print.denseBytes + (local ? withWaste(model, print.allExpertBytes) : 0);
  const decodeRows = Math.ceil(maxRunning / (local ? 1 : settings.microBatches));
  const prefill = { maxTokens: settings.chunkTokens, maxLogitRows: PREFILL_LOGIT_ROWS };
  const decode = { maxTokens: decodeRows, maxLogitRows: decodeRows };
  const steps = [prefill, ...Array.from({ length: local ? 1 : settings.microBatches }, () => decode)];
  const buffers = steps.reduce((sum, limits) => sum + stepBufferBytes(config, print.weights, limits), 0);
  return { weights, buffers: buffers + scratchBytes(layout), base: ROUTER_BASE_BYTES };
}

/**
 * Scratch of the largest forward: the rows of a chunk under the widest projection and, with local experts, those of all
 * their entries. Blocks of an arena grow by doubling, so that up to twice as much is held.
 */
function scratchBytes({ model, settings, groups }: Layout): number {
  const { print, config } = model;
  const widest = Math.max(...print.layers.flatMap(({ mixer }) => mixer.map(({ outputs, inputs }) => outputs + inputs)));
  const experts = groups.length > 0 ? 0 : config.moe.topK * (3 * config.moe.intermediate + config.hidden);
  return settings.chunkTokens * (widest + experts) * 4;
}

/** Sizes that a router is configured with. */
export interface RouterSizes {
  maxRunning: number;
  /** Of `kvMemory`. */
  kvBytes: number;
  /** Of `snapshotMemory`; null for what the router makes of it. */
  snapshotBytes: number | null;
}

/** Memory of a router with given sizes, whether it fits or not. */
export function configuredRouter(layout: Layout, sizes: RouterSizes, limit = limitOf(layout.router)): RouterMemory {
  const { print } = layout.model;
  const { maxRunning } = sizes;
  const { weights, buffers, base } = fixedBytes(layout, maxRunning);
  const pages = Math.floor(sizes.kvBytes / print.pageBytes);
  const kv = pages * print.pageBytes;
  const states = maxRunning * print.stateBytes;
  const snapshots = snapshotBytes(sizes.snapshotBytes, kv, print.stateBytes);
  return {
    weights,
    kv,
    states,
    snapshots,
    buffers,
    base,
    total: weights + kv + states + snapshots + buffers + (layout.router.accelerator === 'cuda' ? 0 : base),
    limit,
    kvTokens: pages * PAGE_TOKENS,
    maxRunning,
  };
}

/**
 * Memory of a router for `users` conversations of `context` tokens, `running` of them at a time. A card is filled with
 * KV pages; other machines get what the users need and a quarter more. Null when not even one conversation fits.
 */
export function routerMemory(
  layout: Layout,
  { users, context, running }: { users: number; context: number; running: number },
  limit = limitOf(layout.router),
): RouterMemory | null {
  const { print } = layout.model;
  const maxRunning = Math.max(1, Math.ceil(running));
  const least = pagedTokens(context) * print.kvTokenBytes;
  const onCard = layout.router.accelerator === 'cuda';
  const wanted = onCard ? Infinity : Math.max(LEAST_KV_BYTES, KV_ROOM * Math.max(1, users) * least);
  const empty = configuredRouter(layout, { maxRunning, kvBytes: 0, snapshotBytes: 0 }, limit);
  const kvBytes = Math.min(wanted, kvWithin(limit - empty.total, print.stateBytes));
  const memory = configuredRouter(layout, { maxRunning, kvBytes, snapshotBytes: null }, limit);
  return memory.kvTokens < pagedTokens(context) ? null : memory;
}

function snapshotBytes(given: number | null, kvBytes: number, stateBytes: number): number {
  if (stateBytes === 0) return 0;
  const wanted = given ?? Math.max(LEAST_SNAPSHOTS * stateBytes, kvBytes / SNAPSHOT_SHARE);
  return Math.floor(wanted / stateBytes) * stateBytes;
}

/** The largest KV cache that fits with its snapshots. */
function kvWithin(room: number, stateBytes: number): number {
  const shared = stateBytes === 0 ? room : room / (1 + 1 / SNAPSHOT_SHARE);
  return Math.max(0, Math.min(shared, room - (stateBytes === 0 ? 0 : LEAST_SNAPSHOTS * stateBytes)));
}

/** Memory of a worker that holds `share` of all experts `copies` times over. */
export function workerMemory(layout: Layout, machine: Machine, share: number, limit = limitOf(machine)): WorkerMemory {
  const { print, config } = layout.model;
  const { layerShards, copies } = layout;
  // Parts of the layers differ by one layer at most, and whoever has the larger one must have room.
  const layers = Math.ceil(config.numLayers / layerShards);
  const perLayer = Math.min(config.moe.numExperts, Math.ceil(config.moe.numExperts * share * layerShards * copies));
  const numExperts = perLayer * layers;
  const experts = numExperts * print.expertBytes;
  const waste = withWaste(layout.model, experts) - experts;
  const base = machine.accelerator === 'cuda' ? 0 : EXPERT_BASE_BYTES;
  return { experts, numExperts, waste, base, total: experts + waste + base, limit };
}

/** Experts that a worker of a machine can hold at most. */
export function expertsThatFit(model: PlannedModel, machine: Machine, limit = limitOf(machine)): number {
  const base = machine.accelerator === 'cuda' ? 0 : EXPERT_BASE_BYTES;
  const each = withWaste(model, model.print.expertBytes * 1024) / 1024;
  return Math.max(0, Math.floor((limit - base) / each));
}

/**
 * Bytes with what the native heap leaves unused: an expert is two blocks, of gate and up, and of down, which is half as
 * large; blocks up to 16 MiB lie in mappings of 64 MiB, larger ones have their own in pages of 2 MiB.
 */
function withWaste({ config, print }: PlannedModel, bytes: number): number {
  const down = print.expertBytes / 3;
  const block = config.moe.intermediate === 0 ? print.expertBytes : 2 * down;
  if (block <= LARGEST_BLOCK) return bytes * (SLAB_BYTES / (Math.floor(SLAB_BYTES / down) * down));
  const mapped = roundUp(block) + (down <= LARGEST_BLOCK ? down : roundUp(down));
  return bytes * (mapped / print.expertBytes);
}

function roundUp(bytes: number): number {
  return Math.ceil(bytes / HUGE_PAGE) * HUGE_PAGE;
}

/** Whether all experts fit on the workers, in as many copies as are wanted. */
export function expertsFit(layout: Layout): boolean {
  if (layout.groups.length === 0) return true;
  if (numWorkers(layout) < layout.copies) return false;
  return layout.groups.every(({ machine, share }) => {
    const { total, limit } = workerMemory(layout, machine, share);
    return total <= limit;
  });
}
