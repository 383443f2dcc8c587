import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { type Machine as MachineFacts, modelSpec } from '@guildhall/bench';
import type { Measurement, ServingMeasurement } from '@guildhall/bench/calibrate';
import { parseModelConfig } from '@guildhall/model/weights';
import { MEASURED_HOST } from '../catalogue/host-costs.ts';
import { ROOT } from '../stack/state-dir.ts';
import { compareAll } from './comparison.ts';
import { ROUTER_SETTINGS } from './evaluate.ts';
import { type Layout, makeLayout, planModel } from './layout.ts';
import { fitHost, machineHere } from './measured.ts';
import { decodeStep, prefill } from './step.ts';

/** Results that were measured on idle machines, which a test can hold predictions against on any machine. */
function kept<T>(name: string): T {
  return JSON.parse(readFileSync(join(ROOT, 'bench/results', name), 'utf8')) as T;
}

interface EngineReport {
  machine: MachineFacts;
  rows: { name: string; value: number }[];
}

const engine = kept<EngineReport>('2026-11-27-engine.json');

function valueOf(name: string): number {
  return engine.rows.find((row) => row.name === name)?.value ?? NaN;
}

/** The bench models in one process, on the machine whose ceilings the same run measured. Nothing is fitted. */
function engineLayout(name: 'qwen35moe' | 'qwen3moe', weights: 'bf16' | 'q8' | 'q4'): Layout {
  const config = parseModelConfig('a bench model', modelSpec(name, 'bench').config);
  const ceilings = {
    facts: engine.machine,
    readBytesPerSecond: valueOf('ceiling/read-2') * 1e9,
    flopsPerSecond: valueOf('ceiling/bf16-2') * 1e9,
  };
  return makeLayout({
    model: planModel({ name, config, dir: null }, weights, 'bf16'),
    router: machineHere(ceilings, { ...MEASURED_HOST, usPerToken: 0 }),
    routers: 1,
    groups: [],
    copies: 1,
    layerShards: 1,
    combine: 'exact',
    oneMachine: true,
    settings: ROUTER_SETTINGS,
  });
}

describe('the engine as it was measured', () => {
  for (const name of ['qwen35moe', 'qwen3moe'] as const) {
    for (const weights of ['bf16', 'q8', 'q4'] as const) {
      it(`computes ${name} in ${weights} as fast as planned, within 27 %, and 15 % on average`, () => {
        const layout = engineLayout(name, weights);
        const rate = (streams: number, context: number): number =>
          (1000 * streams) / decodeStep(layout, streams, context).ms;
        const predicted = {
          'prefill-512': (1000 * 512) / prefill(layout, 512, 0).ms,
          'decode-1': rate(1, 32),
          'decode-1-depth-8192': rate(1, 8192),
          'decode-16': rate(16, 96),
          'decode-32': rate(32, 96),
        };
        const errors = Object.entries(predicted).map(([row, value]) =>
          Math.abs(value / valueOf(`${name}/${weights}/${row}`) - 1),
        );
        assert.ok(Math.max(...errors) < 0.27, JSON.stringify(errors));
        assert.ok(errors.reduce((sum, error) => sum + error, 0) / errors.length < 0.15, JSON.stringify(errors));
      });
    }
  }
});

const calibration = kept<{ machine: MachineFacts; rows: { measured: Measurement }[] }>('2026-11-27-calibration.json');
/** The report has no ceilings. What is taken for them hardly matters: the model is small, and costs are fitted to the rest. */
const TAKEN = { facts: calibration.machine, readBytesPerSecond: 4e10, flopsPerSecond: 3e11 };

function measured(): ServingMeasurement[] {
  const byWorkers = Map.groupBy(
    calibration.rows.map((row) => row.measured),
    ({ workers }) => workers,
  );
  return [...byWorkers].map(([workers, all]) => ({
    setup: { model: join(ROOT, 'models/tiny'), weights: 'f32', workers, threads: 1, maxRunning: 64, kvMemoryMib: 256 },
    prompts: [],
    memory: [],
    decode: all.map((m) => ({
      streams: m.streams,
      tokensPerSecond: m.tokensPerSecond,
      itlMs: (1000 * m.streams) / m.tokensPerSecond,
      itlP99Ms: m.interTokenMs.p99,
      stepMs: m.stepMs,
      context: 300,
      messages: m.messages / m.steps,
      rows: m.rows / m.steps,
      routerCpuMs: m.routerCpuMs / m.steps,
      workerCpuMs: m.workerCpuMs / m.steps,
      clientCpuMs: m.clientCpuMs / m.steps,
      otherCores: m.otherCores,
    })),
  }));
}

describe('clusters as they were measured', () => {
  it('with four workers are as fast as a fit to those with two and eight says, within 10 %; no cluster is 20 % off', () => {
    const measurements = measured();
    const isFitted = ({ setup }: ServingMeasurement): boolean => setup.workers !== 4;
    const host = fitHost({ machine: TAKEN, measurements: measurements.filter(isFitted) });
    const rows = compareAll({ machine: TAKEN, measurements }, host, isFitted).filter(({ unit }) => unit === 'tokens/s');
    assert.equal(rows.filter(({ fitted }) => !fitted).length, 4);
    for (const { setup, what, error, fitted } of rows) {
      assert.ok(Math.abs(error) < (fitted ? 0.2 : 0.1), `${setup}, ${what}: ${(100 * error).toFixed(1)} %`);
    }
  });
});
