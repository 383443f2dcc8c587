import { replyBytes, requestBytes } from '@guildhall/router/scheduling';
import { CARD_CALL_US, WIRE_US } from '../catalogue/host-costs.ts';
import type { LayerShape, ModelShape } from '../simulate/model/shape.ts';
import type { Station } from './closed-network.ts';
import { distinctExperts, slowestEntries, workersReached, workMs } from './formulas.ts';
import { type Layout, spreadOf, type WorkerGroup } from './layout.ts';
import { type Machine, processorOf } from './machines.ts';

/** What one micro-batch or one chunk of a prompt computes. */
export interface PassWork {
  rows: number;
  sequences: number;
  /** Tokens of context whose K and V are read, summed over sequences. */
  contextRead: number;
  /** Sum over rows of the context that each attends to. */
  depth: number;
}

/** What one layer of a pass costs, on average over the layers; times are wall times of an idle machine, ms. */
export interface LayerCost {
  /** Mixer and gate, and the shared expert, on the router. */
  mixerMs: number;
  sharedMs: number;
  /** The router's event loop, before rows leave and after they came back. */
  sendMs: number;
  takeMs: number;
  /** The slowest worker and the mean one that is reached. */
  workerMs: number;
  meanWorkerMs: number;
  /** Under way: two wires and what wakes up at their ends. */
  latencyMs: number;
  /** The router's link, each way. */
  outMs: number;
  backMs: number;
  messages: number;
  outBytes: number;
  backBytes: number;
  workersPerToken: number;
  /** Core time of all processes together. */
  coreMs: number;
}

/** The cost of a layer of a pass. */
export function layerCost(layout: Layout, work: PassWork): LayerCost {
  const router = routerPart(layout, work);
  if (layout.groups.length === 0) return localLayer(layout, work, router);
  const wire = messagesOf(layout, work.rows);
  const { host, link } = layout.router;
  const loop = (wire.messages * host.usPerCall + ((wire.outBytes + wire.backBytes) / 1024) * host.usPerKib) / 1000;
  const fixed = (host.usPerLayer + work.rows * host.usPerRow) / 1000;
  const workers = layout.groups.map((group) => workerTimes(layout, group, work.rows, wire));
  const slowest = Math.max(...workers.map(({ slowestMs }) => slowestMs));
  const mean = Math.max(...workers.map(({ meanMs }) => meanMs));
  const wireUs = layout.oneMachine ? 0 : WIRE_US;
  const cores = workers.reduce(
    (sum, { coreMs }, i) => sum + coreMs * ((layout.groups[i]?.count ?? 0) / layout.layerShards),
    0,
  );
  return {
    ...router,
    sendMs: fixed / 2 + loop / 2,
    takeMs: fixed / 2 + loop / 2,
    // On one machine the workers that compute at a time share its cores.
    workerMs: layout.oneMachine ? Math.max(slowest, cores / layout.router.cores) : slowest,
    meanWorkerMs: mean,
    latencyMs: (2 * (host.latencyUs + wireUs)) / 1000,
    outMs: layout.oneMachine ? 0 : (1000 * wire.outBytes) / link,
    backMs: layout.oneMachine ? 0 : (1000 * wire.backBytes) / link,
    ...wire,
    coreMs: fixed + loop + (router.mixerMs + router.sharedMs) * computeCores(layout.router) + cores,
  };
}

/** Messages and bytes of one layer, both ways. */
interface Wire {
  messages: number;
  outBytes: number;
  backBytes: number;
  workersPerToken: number;
}

/** Messages of a layer: one for each worker that a row goes to, more where one would be too large. */
export function messagesOf(layout: Layout, rows: number): Wire {
  const { rowBytes, topK } = layout.model.shape;
  const perToken = layout.workersPerToken;
  const reached = workersReached(spreadOf(layout).workers, perToken, rows);
  const backRows = rows * (layout.combine === 'exact' ? topK : perToken);
  const [framing, replyFraming] = [requestBytes(0, 0, rowBytes), replyBytes(0, rowBytes)];
  const outPayload = requestBytes(rows * perToken, rows * topK, rowBytes) - framing;
  const backPayload = replyBytes(backRows, rowBytes) - replyFraming;
  const largest = Math.max(outPayload, backPayload) / Math.max(1, reached);
  const parts = Math.max(1, Math.ceil(largest / (layout.settings.maxMessageBytes - framing)));
  const messages = reached * parts;
  return {
    messages,
    outBytes: outPayload + messages * framing,
    backBytes: backPayload + messages * replyFraming,
    workersPerToken: perToken,
  };
}

function workerTimes(layout: Layout, group: WorkerGroup, rows: number, wire: Wire) {
  const { machine } = group;
  // Of the experts of a layer that it has.
  const share = group.share * layout.layerShards;
  const { shape, print } = layout.model;
  const spread = spreadOf(layout);
  const { host, accelerator } = machine;
  const processor = processorOf(machine, print.weights);
  const all = rows * shape.topK;
  const evenness = share * spread.workers;
  const parts = wire.messages / Math.max(1, workersReached(spread.workers, wire.workersPerToken, rows));
  const kib = (wire.outBytes + wire.backBytes) / 1024 / Math.max(1, wire.messages);
  const timeOf = (entries: number): { wallMs: number; computeMs: number } => {
    const computeMs = workMs(
      distinctExperts(shape.numExperts * share, entries) * shape.expertBytes,
      entries * shape.expertFlops,
      processor,
    );
    const messageUs = host.workerUsPerMessage + kib * host.workerUsPerKib + (accelerator === 'cuda' ? CARD_CALL_US : 0);
    return { wallMs: computeMs + (parts * messageUs + entries * host.workerUsPerEntry) / 1000, computeMs };
  };
  // What one that is reached gets, and what the slowest of them gets.
  const reachedMean = Math.max(all * share, all / Math.max(1, wire.messages / parts));
  const mean = timeOf(Math.min(all, reachedMean));
  const slow = timeOf(Math.min(all, Math.max(reachedMean, slowestEntries(spread, rows) * evenness)));
  const reachedShare = Math.min(1, wire.messages / parts / Math.max(1, spread.workers));
  const coreMs = reachedShare * (mean.wallMs + mean.computeMs * (computeCores(machine) - 1));
  return { slowestMs: slow.wallMs, meanMs: mean.wallMs * reachedShare, coreMs };
}

/** Cores that are busy while a process of the machine computes. */
function computeCores({ accelerator, cores }: Machine): number {
  return accelerator === 'cuda' ? 0 : cores;
}

/** The router's own arithmetic for a layer, averaged over the layers. */
function routerPart({ model, router }: Layout, work: PassWork): { mixerMs: number; sharedMs: number } {
  const { shape, print } = model;
  const processor = processorOf(router, print.weights);
  const card = router.accelerator === 'cuda' ? CARD_CALL_US / 1000 : 0;
  const numFull = fullLayers(shape);
  const timeOf = (layer: LayerShape, share: number, attends: boolean): number => {
    const states = attends ? 2 * work.sequences * layer.stateBytes + work.contextRead * layer.bytesPerContextToken : 0;
    const flops = work.rows * layer.flopsPerToken * share + (attends ? work.depth * layer.flopsPerContextToken : 0);
    return workMs(layer.weightBytes * share + states, flops, processor);
  };
  const mean = (share: number, attends: boolean): number =>
    (numFull * timeOf(shape.full, share, attends) +
      (shape.numLayers - numFull) * timeOf(shape.recurrent, share, attends)) /
    shape.numLayers;
  const shared = shape.sharedShare > 0 ? mean(shape.sharedShare, false) : 0;
  return { mixerMs: card + mean(1 - shape.sharedShare, true), sharedMs: shared };
}

/** Full-attention layers of a shape. */
export function fullLayers({ numLayers, fullEvery }: ModelShape): number {
  return Math.floor(numLayers / fullEvery);
}

/** A layer whose experts are in the router's process: one native call, no messages. */
function localLayer(layout: Layout, { rows }: PassWork, router: { mixerMs: number; sharedMs: number }): LayerCost {
  const { shape, print } = layout.model;
  const entries = rows * shape.topK;
  const bytes = distinctExperts(shape.numExperts, entries) * shape.expertBytes;
  const expertsMs = workMs(bytes, entries * shape.expertFlops, processorOf(layout.router, print.weights));
  const computeMs = router.mixerMs + router.sharedMs + expertsMs;
  return {
    mixerMs: computeMs,
    sharedMs: 0,
    sendMs: 0,
    takeMs: 0,
    workerMs: 0,
    meanWorkerMs: 0,
    latencyMs: 0,
    outMs: 0,
    backMs: 0,
    messages: 0,
    outBytes: 0,
    backBytes: 0,
    workersPerToken: 0,
    coreMs: computeMs * computeCores(layout.router),
  };
}

/** Part of what the stations can do that other work takes, by the names of `stationsOf`. */
export type Taken = Readonly<Record<string, number>>;

/**
 * The stations that a micro-batch visits on one layer. The shared expert is computed while the rows are away: it loads the
 * router's processor and takes time only where it takes longer than they are away. `activity` is the part of the time for which
 * each of the other routers does the same.
 */
export function stationsOf(
  layout: Layout,
  cost: LayerCost,
  microBatches: number,
  taken: Taken,
  activity: number,
): Station[] {
  const own = (name: string, serviceMs: number, loadMs = serviceMs): Station => ({
    name,
    serviceMs,
    loadMs,
    customers: microBatches,
    taken: taken[name] ?? 0,
  });
  const away = cost.workerMs + cost.latencyMs + cost.outMs + cost.backMs;
  const late = Math.max(0, cost.sharedMs - away);
  const everyone = microBatches * (1 + (layout.routers - 1) * activity);
  const stations = [
    own('router processor', cost.mixerMs + late, cost.mixerMs + cost.sharedMs),
    own('router event loop', cost.sendMs + cost.takeMs),
    own('router link out', cost.outMs),
    own('router link in', cost.backMs),
    {
      name: 'workers',
      serviceMs: cost.workerMs,
      // With layers dealt out a worker is asked for some of them only.
      loadMs: cost.meanWorkerMs / layout.layerShards,
      customers: everyone,
      taken: taken['workers'] ?? 0,
    },
    { name: 'worker links', serviceMs: 0, loadMs: workerLinkMs(layout, cost), customers: everyone, taken: 0 },
  ];
  if (!layout.oneMachine) return stations;
  // Seidmann: a station of c cores is one that is c times as fast, and a delay for the rest, which the others are.
  const cores = layout.router.cores;
  return [
    ...stations,
    { name: 'cores', serviceMs: 0, loadMs: cost.coreMs / cores, customers: everyone, taken: taken['cores'] ?? 0 },
  ];
}

function workerLinkMs(layout: Layout, { outBytes, backBytes }: LayerCost): number {
  if (layout.oneMachine || layout.groups.length === 0) return 0;
  const links = layout.groups.map(({ machine, share }) => share / machine.link);
  return 1000 * Math.max(outBytes, backBytes) * Math.max(...links);
}
