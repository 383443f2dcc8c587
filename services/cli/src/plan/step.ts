import { type Cycle, cycleOf, type Station } from './closed-network.ts';
import { workMs } from './formulas.ts';
import { type Layout, microBatchesOf } from './layout.ts';
import { processorOf } from './machines.ts';
import { type LayerCost, layerCost, stationsOf, type Taken } from './pass.ts';

/** A decode step of some streams on one router. */
export interface DecodeStep {
  streams: number;
  microBatches: number;
  /** From one token to the next, ms. */
  ms: number;
  /** Head, sampling and what follows, of all micro-batches; ms. */
  headMs: number;
  /** Of a layer of a micro-batch. */
  cost: LayerCost;
  cycle: Cycle;
}

const NOTHING_TAKEN: Taken = {};
/** No other router does anything. */
const ALONE = 0;

/** A step of `streams` sequences, each with `context` tokens behind it. */
export function decodeStep(layout: Layout, streams: number, context: number, taken = NOTHING_TAKEN): DecodeStep {
  const microBatches = microBatchesOf(layout, Math.max(1, Math.floor(streams)));
  const rows = Math.max(1, streams / microBatches);
  const cost = layerCost(layout, { rows, sequences: rows, contextRead: rows * context, depth: rows * context });
  const cycle = cycleOf(stationsOf(layout, cost, microBatches, taken, Math.min(1, streams)), cost.latencyMs);
  const headMs = microBatches * headOf(layout, rows);
  return { streams, microBatches, ms: layout.model.shape.numLayers * cycle.ms + headMs, headMs, cost, cycle };
}

/** Output projection of some rows, sampling, and what brings the tokens to the client. */
function headOf({ model, router }: Layout, rows: number): number {
  const { shape, print } = model;
  const matrix = workMs(shape.headBytes, rows * shape.headFlops, processorOf(router, print.weights));
  return matrix + (rows * router.host.usPerToken) / 1000;
}

/** A prompt computed on an idle router. */
export interface Prefill {
  /** Until the first token, ms. */
  ms: number;
  /** Tokens that are computed: those that no cache has. */
  tokens: number;
  chunks: number;
  /** Part of the time for which the router itself computes or packs; the rest it waits for workers and wires. */
  routerShare: number;
  /** Time for which it keeps the busiest worker, or its link, from others; ms. */
  workerMs: number;
  /** Bytes over the router's link, both ways. */
  bytes: number;
  /** Of a layer of a whole chunk in the middle of the prompt. */
  cost: LayerCost;
  bottleneck: string;
}

const PAGE_TOKENS = 64;

/** A prompt of which the share `hit` is cached. The last token is always computed. */
export function prefill(layout: Layout, promptTokens: number, hit: number): Prefill {
  const { settings, model } = layout;
  const cached = Math.min(promptTokens - 1, Math.floor((promptTokens * hit) / PAGE_TOKENS) * PAGE_TOKENS);
  const total = { ms: 0, routerMs: 0, workerMs: 0, bytes: 0, chunks: 0 };
  let cost: LayerCost | null = null;
  for (let depth = cached; depth < promptTokens; depth += settings.chunkTokens) {
    const rows = Math.min(settings.chunkTokens, promptTokens - depth);
    const chunk = layerCost(layout, {
      rows,
      sequences: 1,
      contextRead: depth + rows,
      depth: rows * (depth + rows / 2),
    });
    const stations = stationsOf(layout, chunk, 1, NOTHING_TAKEN, ALONE);
    const { ms } = cycleOf(stations, chunk.latencyMs);
    total.workerMs += model.shape.numLayers * Math.max(...stations.map(sharedLoad));
    total.ms += model.shape.numLayers * ms;
    total.routerMs += model.shape.numLayers * (chunk.mixerMs + chunk.sharedMs + chunk.sendMs + chunk.takeMs);
    total.bytes += model.shape.numLayers * (chunk.outBytes + chunk.backBytes);
    total.chunks += 1;
    cost ??= chunk;
  }
  const ms = total.ms + headOf(layout, 1);
  const middle = cost ?? layerCost(layout, { rows: 1, sequences: 1, contextRead: 1, depth: 1 });
  return {
    ms,
    tokens: promptTokens - cached,
    chunks: total.chunks,
    routerShare: Math.min(1, total.routerMs / ms),
    workerMs: total.workerMs,
    bytes: total.bytes,
    cost: middle,
    bottleneck: cycleOf(stationsOf(layout, middle, 1, NOTHING_TAKEN, ALONE), middle.latencyMs).bottleneck,
  };
}

/** Load of a station that all routers visit. */
function sharedLoad({ name, loadMs }: Station): number {
  return name.startsWith('worker') ? loadMs : 0;
}
