import type { Machine as MachineFacts } from '@guildhall/bench';
import type { DecodeMeasurement, ServingMeasurement } from '@guildhall/bench/calibrate';
import { fail } from '@guildhall/common';
import { kvFormatOf } from '@guildhall/model/weights';
import { type HostCosts, MEASURED_HOST } from '../catalogue/host-costs.ts';
import { findModel } from '../catalogue/models.ts';
import { REACHED } from '../catalogue/machine-kinds.ts';
import { ROUTER_SETTINGS } from './evaluate.ts';
import { type Layout, makeLayout, planModel, type PlannedModel } from './layout.ts';
import type { Machine } from './machines.ts';
import { layerCost, type PassWork } from './pass.ts';
import { leastSquares } from './least-squares.ts';
import { decodeStep } from './step.ts';

/** A machine and what was measured of it. */
export interface MeasuredMachine {
  facts: MachineFacts;
  /** All threads reading memory. */
  readBytesPerSecond: number;
  /** Peak of the instructions that BF16 weights are multiplied with. */
  flopsPerSecond: number;
}

/** Everything that `guildhall plan --measure` keeps. */
export interface PlanMeasurements {
  machine: MeasuredMachine;
  measurements: readonly ServingMeasurement[];
}

/** The machine as the planner sees it, with what its programs cost. */
export function machineHere({ facts, readBytesPerSecond, flopsPerSecond }: MeasuredMachine, host: HostCosts): Machine {
  return {
    kind: 'here',
    accelerator: 'none',
    slots: 1,
    perHost: 1,
    memoryBytes: facts.memoryGiB * 2 ** 30,
    bytesPerSecond: readBytesPerSecond,
    flopsPerSecond: flopsPerSecond * REACHED.none.flops,
    cores: facts.cores,
    link: Infinity,
    pricePerHour: null,
    role: 'any',
    host,
  };
}

/** A measured cluster as a layout of the planner. */
export function layoutOf({ setup }: Pick<ServingMeasurement, 'setup'>, machine: Machine): Layout {
  return makeLayout({
    model: modelOf(setup.model, setup.weights),
    router: machine,
    routers: 1,
    groups: setup.workers === 0 ? [] : [{ machine, count: setup.workers, share: 1 / setup.workers }],
    copies: 1,
    layerShards: 1,
    combine: 'exact',
    oneMachine: true,
    settings: ROUTER_SETTINGS,
  });
}

function modelOf(model: string, weights: ServingMeasurement['setup']['weights']): PlannedModel {
  return planModel(findModel(model, {}), weights, kvFormatOf(weights, 'auto'));
}

/** What one decode step costs in core time besides arithmetic, and how often each cost comes. */
interface Observation {
  /** µs, what is left of the CPU time after arithmetic. */
  us: number;
  counts: number[];
}

/**
 * Fits what the programs cost to clusters of one model with workers, by least squares over core time per step; what is
 * computed is taken off first by the planner's own figures. Latency is what is left of the time of single streams.
 */
export function fitHost({ machine, measurements }: PlanMeasurements): HostCosts {
  const free: HostCosts = {
    ...MEASURED_HOST,
    usPerLayer: 0,
    usPerRow: 0,
    usPerCall: 0,
    usPerKib: 0,
    workerUsPerMessage: 0,
    workerUsPerEntry: 0,
    workerUsPerKib: 0,
    latencyUs: 0,
    usPerToken: 0,
  };
  const here = machineHere(machine, free);
  const [router, worker]: [Observation[], Observation[]] = [[], []];
  for (const measurement of measurements) {
    if (measurement.setup.workers === 0) continue;
    const layout = layoutOf(measurement, here);
    for (const decode of measurement.decode) {
      const { passes, rows, cost } = passesOf(layout, decode);
      const own = passes * (cost.mixerMs + cost.sharedMs) * here.cores;
      const theirs = passes * Math.max(0, cost.coreMs - (cost.mixerMs + cost.sharedMs) * here.cores);
      router.push({ us: 1000 * (decode.routerCpuMs - own), counts: [passes, passes * rows, decode.messages] });
      worker.push({ us: 1000 * (decode.workerCpuMs - theirs), counts: [decode.messages, decode.rows] });
    }
  }
  if (router.length < 3) throw fail('config_invalid', 'a fit needs clusters with workers under three loads at least');
  const [usPerLayer = 0, usPerRow = 0, usPerCall = 0] = leastSquares(router);
  const [workerUsPerMessage = 0, workerUsPerEntry = 0] = leastSquares(worker);
  const fitted = {
    ...free,
    usPerLayer,
    usPerRow,
    usPerCall,
    workerUsPerMessage,
    workerUsPerEntry,
    usPerToken: clientUs(measurements),
  };
  return { ...fitted, latencyUs: latencyOf({ machine, measurements }, fitted) };
}

function passesOf(layout: Layout, decode: DecodeMeasurement) {
  const { microBatches } = decodeStep(layout, decode.streams, decode.context);
  const rows = decode.streams / microBatches;
  const work: PassWork = { rows, sequences: rows, contextRead: rows * decode.context, depth: rows * decode.context };
  return { passes: microBatches * layout.model.shape.numLayers, rows, cost: layerCost(layout, work) };
}

function clientUs(measurements: readonly ServingMeasurement[]): number {
  const each = measurements.flatMap(({ decode }) =>
    decode.map(({ clientCpuMs, streams }) => (1000 * clientCpuMs) / streams),
  );
  return each.reduce((sum, us) => sum + us, 0) / Math.max(1, each.length);
}

/** What single streams take longer than the parts of their steps. */
function latencyOf({ machine, measurements }: PlanMeasurements, host: HostCosts): number {
  const here = machineHere(machine, host);
  const each = measurements.flatMap((measurement) => {
    if (measurement.setup.workers === 0) return [];
    const layout = layoutOf(measurement, here);
    return measurement.decode
      .filter(({ streams }) => streams === 1)
      .map(({ itlMs, context }) => {
        const { ms } = decodeStep(layout, 1, context);
        return (1000 * (itlMs - ms)) / (2 * layout.model.shape.numLayers);
      });
  });
  return Math.max(0, each.reduce((sum, us) => sum + us, 0) / Math.max(1, each.length));
}
