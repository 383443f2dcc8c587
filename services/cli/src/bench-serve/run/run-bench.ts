import type { Clock } from '@guildhall/common';
import { VERSION } from '../../version.ts';
import { HttpClient, type Send } from '../client/http-client.ts';
import { firstModel } from '../client/models.ts';
import { pointLabel } from '../points.ts';
import type { BenchServeResult } from '../result.ts';
import type { BenchServeSettings } from '../settings.ts';
import type { PointResult } from '../statistics/point-statistics.ts';
import { SyntheticWorkload } from '../workload/synthetic.ts';
import type { TokenRate } from '../workload/text.ts';
import { TraceWorkload } from '../workload/trace.ts';
import type { Workload } from '../workload/workload.ts';
import { measureTokenRate } from './calibrate.ts';
import { type PointPlan, PointRun } from './point-run.ts';

/** Told while it runs. */
export interface BenchProgress {
  update(label: string, share: number | null): void;
  done(label: string): void;
}

const REFRESH_MS = 250;
/** Warm-up requests at a time. */
const WARMUP_CLIENTS = 4;

/**
 * Measures all points of a run one after the other. When the signal comes, what was measured until then is the result.
 * Throws `peer_unavailable` when the server does not answer at all.
 */
export async function runBench(
  settings: BenchServeSettings,
  clock: Clock,
  signal: AbortSignal,
  progress: BenchProgress,
): Promise<BenchServeResult> {
  const { url, api, headers, timeoutMs } = settings;
  const model = settings.model ?? (await firstModel(url, headers));
  const client = new HttpClient({ url, api, headers, timeoutMs }, clock);
  try {
    return await measure(settings, { model, send: client.send, clock, signal, progress });
  } finally {
    client.close();
  }
}

interface Tools {
  model: string;
  send: Send;
  clock: Clock;
  signal: AbortSignal;
  progress: BenchProgress;
}

async function measure(settings: BenchServeSettings, tools: Tools): Promise<BenchServeResult> {
  const { send, clock, signal, progress, model } = tools;
  const { seed, temperature, ignoreEos, extraBody, warmup } = settings;
  const body = { model, temperature, ignoreEos, seed: null, extra: extraBody };
  const startedAt = new Date(clock.nowMs()).toISOString();
  progress.update('learning how the server counts tokens', null);
  const rate = await measureTokenRate(send, body, seed, signal);
  const workload = await workloadOf(settings, rate);
  const plan = (salt: string, point: PointPlan['point'], limits: PointPlan['limits']): PointPlan => {
    const { arrivals, maxInFlight, slo } = settings;
    return { point, workload, salt, seed, arrivals, limits, maxInFlight, slo, body };
  };
  if (warmup > 0) {
    const clients = Math.min(warmup, WARMUP_CLIENTS);
    const limits = { requests: warmup, durationMs: null };
    await runPoint(plan('warm-up', { kind: 'concurrency', clients }, limits), tools, 'warm-up');
  }
  const points: PointResult[] = [];
  for (const [index, point] of settings.points.entries()) {
    if (signal.aborted) break;
    const result = await runPoint(plan(`point ${index}`, point, settings.limits), tools, pointLabel(point));
    points.push(result);
    progress.done(pointLine(result));
  }
  return resultOf(settings, tools, { startedAt, workload: workload.description, rate, points });
}

function resultOf(
  settings: BenchServeSettings,
  { model, signal }: Tools,
  made: { startedAt: string; workload: string; rate: TokenRate; points: PointResult[] },
): BenchServeResult {
  const { headers: _headers, url, api, model: _model, label, slo, ...rest } = settings;
  const { startedAt, workload, rate, points } = made;
  return {
    schema: 1,
    suite: 'bench-serve',
    label: label ?? model,
    startedAt,
    partial: signal.aborted,
    version: VERSION,
    target: { url, api, model },
    workload,
    tokensPerWord: { value: rate.perWord, measured: rate.measured },
    settings: { ...rest, slo },
    slo,
    points,
  };
}

async function workloadOf(settings: BenchServeSettings, rate: TokenRate): Promise<Workload> {
  const { seed, trace, synthetic } = settings;
  if (trace === null) return new SyntheticWorkload({ seed, rate, ...synthetic });
  return TraceWorkload.open({ file: trace, seed, rate, maxOutputTokens: null });
}

async function runPoint(
  plan: PointPlan,
  { send, clock, signal, progress }: Tools,
  label: string,
): Promise<PointResult> {
  const run = new PointRun(plan, send, clock, signal);
  const timer = clock.setInterval(REFRESH_MS, () => {
    const { ended, failed, inFlight } = run.statistics.live;
    const most = plan.limits.requests === null ? '' : `/${plan.limits.requests}`;
    const broken = failed === 0 ? '' : `, ${failed} failed`;
    progress.update(`${label}: ${ended}${most} done, ${inFlight} under way${broken}`, run.progress);
  });
  try {
    await run.run();
  } finally {
    timer.cancel();
  }
  return run.statistics.result();
}

function pointLine(result: PointResult): string {
  const { label, requests, ttftMs, tpotMs, outputTokensPerSecond, durationS } = result;
  const ms = (value: number | null): string => (value === null ? '-' : value.toFixed(1));
  const failed = requests.failed === 0 ? '' : `, ${requests.failed} failed`;
  return (
    `${label}: ${requests.succeeded} requests in ${durationS.toFixed(1)} s${failed}, ` +
    `${outputTokensPerSecond.toFixed(1)} tokens/s, TTFT p50 ${ms(ttftMs.p50)} p99 ${ms(ttftMs.p99)} ms, TPOT p50 ${ms(tpotMs.p50)} ms`
  );
}
