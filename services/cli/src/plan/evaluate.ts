import { kvFormatOf } from '@guildhall/model/weights';
import type { WeightFormat } from '@guildhall/native';
import {
  type Layout,
  makeLayout,
  planModel,
  type PlannedModel,
  type RouterSettings,
  type WorkerGroup,
} from './layout.ts';
import { type Performance, performanceOf } from './load.ts';
import type { Machine } from './machines.ts';
import {
  expertsFit,
  expertsThatFit,
  limitOf,
  pagedTokens,
  type RouterMemory,
  routerMemory,
  type WorkerMemory,
  workerMemory,
} from './memory.ts';
import type { ExpertPlace, PlanRequest } from './request.ts';

/** One way to serve what is asked for. */
export interface Candidate {
  weights: WeightFormat;
  combine: 'exact' | 'partial';
  copies: number;
  layerShards: number;
  experts: ExpertPlace;
  router: Machine;
  routers: number;
  /** Workers of each kind of machine; empty with local experts. */
  workers: readonly { machine: Machine; count: number }[];
  decodeSlowdown: number;
}

/** Why a candidate will not do. */
export type Shortfall = 'router_memory' | 'expert_memory' | 'rate' | 'ttft' | 'itl' | 'users';

/** A candidate with what it would do. */
export interface Evaluation {
  candidate: Candidate;
  layout: Layout;
  /** Null where nothing fits. */
  router: RouterMemory | null;
  workers: readonly WorkerMemory[];
  performance: Performance | null;
  /** Conversations whose context has its place in the KV caches of all routers. */
  userCapacity: number;
  shortfalls: readonly Shortfall[];
  /** Slots that are taken. */
  slots: number;
  cost: Cost | null;
}

/** Money by the hour and by the million tokens; what a token costs follows the routers' time that it takes. */
export interface Cost {
  perHour: number;
  perMillionInput: number;
  perMillionOutput: number;
  /** Everything on the output tokens. */
  perMillionBlended: number;
}

/** Defaults of the router (docs/config.md) that decide about time. */
export const ROUTER_SETTINGS: RouterSettings = {
  chunkTokens: 512,
  microBatches: 2,
  microBatchMin: 4,
  maxMessageBytes: 256 << 10,
  decodeSlowdown: 1.6,
  stepBudgetMs: 50,
  prefillBurstMs: 200,
};

/** Streams of one router beyond which nothing is planned. */
const MOST_STREAMS = 512;
/** Room above the mean number of streams of an open load. */
const STREAM_ROOM = 1.25;
const LEAST_STREAMS = 4;

/** Models of the formats that were looked at, made once. */
export class Evaluator {
  readonly request: PlanRequest;
  readonly #models = new Map<WeightFormat, PlannedModel>();

  constructor(request: PlanRequest) {
    this.request = request;
  }

  /** The model in a format. */
  model(weights: WeightFormat): PlannedModel {
    const known = this.#models.get(weights);
    if (known !== undefined) return known;
    const made = planModel(this.request.model, weights, kvFormatOf(weights, this.request.kvDtype));
    this.#models.set(weights, made);
    return made;
  }

  /** What a candidate would do. */
  evaluate(candidate: Candidate): Evaluation {
    const layout = this.#layoutOf(candidate);
    const { traffic } = this.request;
    const slots = candidate.routers + candidate.workers.reduce((sum, { count }) => sum + count, 0);
    const workers = layout.groups.map(({ machine, share }) => workerMemory(layout, machine, share));
    const base = { candidate, layout, workers, slots };
    const nothing = { ...base, router: null, performance: null, userCapacity: 0, cost: null };
    const limit = routerLimit(layout, workers);
    const maxStreams = streamsThatFit(layout, traffic.context, limit);
    if (maxStreams < 1) return { ...nothing, shortfalls: ['router_memory'] };
    if (!expertsFit(layout)) return { ...nothing, shortfalls: ['expert_memory'] };
    const performance = performanceOf(layout, { ...traffic, users: traffic.users ?? 0, maxStreams });
    const router = this.#memoryFor(layout, performance, maxStreams, limit);
    if (router === null) return { ...nothing, shortfalls: ['router_memory'] };
    const userCapacity = layout.routers * Math.floor(router.kvTokens / pagedTokens(traffic.context));
    const cost = costOf(candidate, performance);
    const shortfalls = shortfallsOf(this.request, performance, userCapacity);
    return { ...base, router, performance, userCapacity, cost, shortfalls };
  }

  #memoryFor(layout: Layout, performance: Performance, maxStreams: number, limit: number): RouterMemory | null {
    const { users, context } = this.request.traffic;
    const streams = performance.decoding + performance.prefilling;
    const wanted = this.request.traffic.requestsPerSecond === null ? streams : STREAM_ROOM * streams;
    const running = Math.max(1, Math.min(maxStreams, Math.max(LEAST_STREAMS, Math.ceil(wanted))));
    const perRouter = Math.ceil((users ?? running * layout.routers) / layout.routers);
    return routerMemory(layout, { users: Math.max(perRouter, running), context, running }, limit);
  }

  #layoutOf(candidate: Candidate): Layout {
    const model = this.model(candidate.weights);
    return makeLayout({
      model,
      router: candidate.router,
      routers: candidate.routers,
      groups: candidate.experts === 'local' ? [] : groupsOf(model, candidate),
      copies: candidate.experts === 'local' ? 1 : candidate.copies,
      layerShards: candidate.experts === 'local' ? 1 : candidate.layerShards,
      combine: candidate.experts === 'local' ? 'exact' : candidate.combine,
      oneMachine: hostsOf(this.request.machines) === 1,
      settings: { ...ROUTER_SETTINGS, decodeSlowdown: candidate.decodeSlowdown },
    });
  }
}

/** Machines of all kinds. */
export function hostsOf(machines: readonly Machine[]): number {
  return machines.reduce((sum, { slots, perHost }) => sum + slots / perHost, 0);
}

/** On a machine without cards all processes share its memory. */
function routerLimit({ router, routers, groups, oneMachine }: Layout, workers: readonly WorkerMemory[]): number {
  const limit = limitOf(router);
  if (!oneMachine || router.accelerator === 'cuda') return limit;
  const taken = workers.reduce((sum, { total }, i) => sum + total * (groups[i]?.count ?? 0), 0);
  return (limit - taken) / routers;
}

/** Sequences of `context` tokens that a router can hold at a time. */
function streamsThatFit(layout: Layout, context: number, limit: number): number {
  const fits = (running: number): boolean => {
    const memory = routerMemory(layout, { users: running, context, running }, limit);
    return memory !== null && memory.kvTokens >= running * pagedTokens(context);
  };
  let [good, bad] = [0, MOST_STREAMS + 1];
  while (bad - good > 1) {
    const middle = Math.floor((good + bad) / 2);
    if (fits(middle)) good = middle;
    else bad = middle;
  }
  return good;
}

/** Experts by the machines' bandwidth, as far as their memory allows; what does not fit goes to the others. */
function groupsOf(model: PlannedModel, { workers, copies }: Candidate): WorkerGroup[] {
  const all = model.config.numLayers * model.config.moe.numExperts * copies;
  const groups = workers.map(({ machine, count }) => ({
    machine,
    count,
    most: expertsThatFit(model, machine) / all,
    share: 0,
    full: false,
  }));
  let left = 1;
  for (let round = 0; round < groups.length && left > 1e-9; round++) {
    const open = groups.filter(({ full }) => !full);
    const speed = open.reduce((sum, { machine, count }) => sum + machine.bytesPerSecond * count, 0);
    const filled = open.filter((group) => (left * group.machine.bytesPerSecond) / speed >= group.most);
    for (const group of filled.length > 0 ? filled : open) {
      group.share = filled.length > 0 ? group.most : (left * group.machine.bytesPerSecond) / speed;
      group.full = true;
    }
    left = 1 - groups.reduce((sum, { share, count, full }) => sum + (full ? share * count : 0), 0);
    if (filled.length === 0) break;
  }
  // What fits nowhere is left with the last one, whose memory then shows that it does not.
  const last = groups.at(-1);
  if (last !== undefined && left > 1e-9) last.share += left / last.count;
  return groups.map(({ machine, count, share }) => ({ machine, count, share }));
}

function shortfallsOf({ traffic }: PlanRequest, performance: Performance, userCapacity: number): Shortfall[] {
  const found: Shortfall[] = [];
  if (!performance.sustained) found.push('rate');
  if (traffic.sloTtftMs !== null && performance.ttftMs > traffic.sloTtftMs) found.push('ttft');
  if (traffic.sloItlMs !== null && performance.itlMs > traffic.sloItlMs) found.push('itl');
  if (traffic.users !== null && userCapacity < traffic.users) found.push('users');
  return found;
}

function costOf({ router, routers, workers }: Candidate, performance: Performance): Cost | null {
  let perHour = 0;
  for (const { machine, count } of [{ machine: router, count: routers }, ...workers]) {
    if (machine.pricePerHour === null) return null;
    perHour += machine.pricePerHour * count;
  }
  const perMillion = (share: number, tokensPerSecond: number): number =>
    tokensPerSecond <= 0 ? 0 : (perHour * share) / ((tokensPerSecond * 3600) / 1e6);
  const { prefillBusy, decoding, inputTokensPerSecond, outputTokensPerSecond } = performance;
  // A router is busy with prompts, with steps, or with both; what it is idle for is shared out alike.
  const decodeBusy = Math.min(1, decoding);
  const share = prefillBusy / Math.max(1e-9, prefillBusy + decodeBusy);
  return {
    perHour,
    perMillionInput: perMillion(share, inputTokensPerSecond),
    perMillionOutput: perMillion(1 - share, outputTokensPerSecond),
    perMillionBlended: perMillion(1, outputTokensPerSecond),
  };
}
