import { formatBytes } from '../ui/bytes.ts';
import { formatTable } from '../ui/table.ts';
import type { Calibration, Comparison } from './calibration.ts';
import type { Outcome } from './outcome.ts';
import type { Recovery } from './recovery.ts';

/** What one simulation gave. */
export interface SweepRow extends Outcome {
  recovery: Recovery | null;
}

const HEADINGS = [
  'workers',
  'routers',
  'streams',
  'tokens/s',
  'ttft p50',
  'p99 ms',
  'token p50',
  'p99 ms',
  'MB/token',
  'workers/token',
  'busy: worker',
  'most',
  'event loop',
  'compute',
  'link',
  'hedges',
];

/** One line for each number of workers. */
export function asTable(rows: readonly SweepRow[]): string {
  return formatTable(
    HEADINGS,
    rows.map((row) => [
      row.workers,
      row.routers,
      row.streams,
      Math.round(row.tokensPerSecond),
      ms(row.ttftMs.p50),
      ms(row.ttftMs.p99),
      ms(row.interTokenMs.p50),
      ms(row.interTokenMs.p99),
      (row.routerBytesPerToken / 1e6).toFixed(2),
      row.workersPerToken.toFixed(2),
      percent(row.workerUse.mean),
      percent(row.workerUse.most),
      percent(row.routerLoopUse),
      percent(row.routerComputeUse),
      percent(row.routerLinkUse),
      percent(row.hedgeShare, 2),
    ]),
  );
}

/** What a fault did, in words. */
export function describeRecovery(workers: number, streamsDropped: number, recovery: Recovery): string {
  const { before, lowestShare, longestGapMs, steadyAfterMs, redundantAfterMs, bytesLoaded } = recovery;
  return [
    `${workers} workers: ${streamsDropped} streams dropped, rate before ${Math.round(before.tokensPerSecond)} tokens/s,`,
    `lowest quarter second ${percent(lowestShare)} of it, longest gap ${ms(longestGapMs)} ms (${ms(before.longestGapMs)} before),`,
    steadyAfterMs === null ? 'not steady again,' : `steady again after ${(steadyAfterMs / 1000).toFixed(2)} s,`,
    redundantAfterMs === null
      ? 'copies not complete again'
      : `all copies again after ${(redundantAfterMs / 1000).toFixed(1)} s (${formatBytes(bytesLoaded)} loaded)`,
  ].join(' ');
}

function ms(value: number): string {
  return Number.isFinite(value) ? value.toFixed(value < 10 ? 1 : 0) : '-';
}

function percent(share: number, digits = 0): string {
  return `${(share * 100).toFixed(digits)} %`;
}

/** Measured and predicted rates beside each other. */
export function calibrationTable(comparisons: readonly Comparison[]): string {
  return formatTable(
    ['workers', 'streams', 'measured tokens/s', 'predicted', 'error', 'token p50 ms', 'predicted', 'other load', ''],
    comparisons.map(({ measured, predicted, error, fitted }) => [
      measured.workers,
      measured.streams,
      measured.tokensPerSecond.toFixed(1),
      predicted.tokensPerSecond.toFixed(1),
      `${error > 0 ? '+' : ''}${(error * 100).toFixed(1)} %`,
      measured.interTokenMs.p50.toFixed(2),
      predicted.interTokenMs.p50.toFixed(2),
      `${measured.otherCores.toFixed(2)} cores`,
      fitted ? 'fitted' : '',
    ]),
  );
}

/** The fitted parameters, in words. */
export function describeCalibration(c: Calibration): string {
  const us = (value: number): string => `${value.toFixed(1)} µs`;
  return [
    `fitted: worker ${us(c.usPerMessage)} a message and ${us(c.usPerRow)} an expert row;`,
    `router ${us(c.usPerCall)} a call, ${us(c.usPerLayer)} a layer and ${us(c.usPerDenseRow)} a row of it;`,
    `client ${us(c.usPerToken)} a token; ${us(c.latencyUs)} one way`,
  ].join(' ');
}
