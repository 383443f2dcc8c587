import type { ServingMeasurement } from '@guildhall/bench/calibrate';
import { stepBufferBytes } from '@guildhall/model/weights';
import type { HostCosts } from '../catalogue/host-costs.ts';
import { formatTable } from '../ui/table.ts';
import { layoutOf, machineHere, type PlanMeasurements } from './measured.ts';
import { configuredRouter, workerMemory } from './memory.ts';
import { decodeStep, prefill } from './step.ts';

/** One measured figure beside what the planner says of it. */
export interface Compared {
  setup: string;
  what: string;
  unit: string;
  measured: number;
  predicted: number;
  /** Relative error of the prediction. */
  error: number;
  /** The parameters were fitted to this cluster. */
  fitted: boolean;
}

/** Every measured figure beside its prediction. `fittedTo` says which clusters the host costs were fitted to. */
export function compareAll(
  { machine, measurements }: PlanMeasurements,
  host: HostCosts,
  fittedTo: (measurement: ServingMeasurement) => boolean,
): Compared[] {
  const here = machineHere(machine, host);
  return measurements.flatMap((measurement) => {
    const layout = layoutOf(measurement, here);
    const setup = setupName(measurement);
    const fitted = fittedTo(measurement);
    const row = (what: string, unit: string, measured: number, predicted: number): Compared => ({
      setup,
      what,
      unit,
      measured,
      predicted,
      error: predicted / measured - 1,
      fitted,
    });
    const speed = measurement.decode.flatMap((decode) => {
      const { ms } = decodeStep(layout, decode.streams, decode.context);
      const rate = (1000 * decode.streams) / ms;
      return [
        row(`${decode.streams} streams`, 'ms between tokens', decode.itlMs, ms),
        row(`${decode.streams} streams`, 'tokens/s', decode.tokensPerSecond, rate),
      ];
    });
    const prompts = measurement.prompts.map(({ promptTokens, ttftMs }) =>
      row(`prompt of ${promptTokens}`, 'ms to the first token', ttftMs, prefill(layout, promptTokens, 0).ms),
    );
    return [...speed, ...prompts, ...memoryRows(measurement, here, row)];
  });
}

function setupName({ setup }: ServingMeasurement): string {
  const model = setup.model.split('/').at(-1) ?? setup.model;
  return `${model} ${setup.weights}, ${setup.workers === 0 ? 'local' : `${setup.workers} workers`}`;
}

type Row = (what: string, unit: string, measured: number, predicted: number) => Compared;

const MIB = 2 ** 20;

function memoryRows(measurement: ServingMeasurement, here: ReturnType<typeof machineHere>, row: Row): Compared[] {
  const layout = layoutOf(measurement, here);
  const { setup, memory } = measurement;
  const { print, config } = layout.model;
  return memory.flatMap(({ process, native, resident }) => {
    const sum = Object.values(native).reduce((total, bytes) => total + bytes, 0);
    if (process.startsWith('router')) {
      const sizes = { maxRunning: setup.maxRunning, kvBytes: setup.kvMemoryMib * MIB, snapshotBytes: 0 };
      const planned = configuredRouter(layout, sizes);
      const exact = print.denseBytes + (setup.workers === 0 ? print.allExpertBytes : 0) + planned.kv + planned.states;
      const held = (native['weights'] ?? 0) + (native['kv'] ?? 0) + (native['states'] ?? 0);
      return [
        row(`${process}: weights, KV, states`, 'MiB', held / MIB, exact / MIB),
        row(`${process}: native`, 'MiB', sum / MIB, (exact + planned.buffers) / MIB),
      ];
    }
    const planned = workerMemory(layout, here, 1 / setup.workers, Infinity);
    const buffers = stepBufferBytes(config, print.weights, { maxTokens: 1, maxLogitRows: 0 });
    return [
      row(`${process}: weights`, 'MiB', (native['weights'] ?? 0) / MIB, planned.experts / MIB),
      row(`${process}: resident, own`, 'MiB', resident.anonymous / MIB, (planned.total + buffers) / MIB),
    ];
  });
}

/** A table of all rows, and the errors by what they are of. */
export function comparisonTable(rows: readonly Compared[]): string {
  const cells = rows.map(({ setup, what, unit, measured, predicted, error, fitted }) => [
    setup,
    what,
    unit,
    measured.toPrecision(4),
    predicted.toPrecision(4),
    `${error >= 0 ? '+' : ''}${(100 * error).toFixed(1)} %`,
    fitted ? 'fitted' : '',
  ]);
  const table = formatTable(['cluster', 'figure', 'unit', 'measured', 'predicted', 'error', ''], cells);
  return `${table}\n\n${summaryOf(rows)}`;
}

function summaryOf(rows: readonly Compared[]): string {
  const groups = Map.groupBy(
    rows.filter(({ fitted }) => !fitted),
    ({ unit, what }) => (unit === 'MiB' ? what.replace(/^\w+-\d+: /, '') : unit),
  );
  const lines = [...groups].map(([unit, all]) => {
    const errors = all.map(({ error }) => Math.abs(error));
    const mean = errors.reduce((sum, error) => sum + error, 0) / errors.length;
    return [unit, all.length, `${(100 * mean).toFixed(1)} %`, `${(100 * Math.max(...errors)).toFixed(1)} %`];
  });
  return formatTable(['not fitted', 'figures', 'mean error', 'largest'], lines);
}
