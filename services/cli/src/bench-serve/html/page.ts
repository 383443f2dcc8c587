import { explainKind } from '../client/errors.ts';
import { type BenchServeResult, highestGoodPoint } from '../result.ts';
import type { DistributionSummary } from '../statistics/distribution.ts';
import type { PointResult } from '../statistics/point-statistics.ts';
import { CARRIED, caveats } from '../text-report.ts';
import { chartHtml } from './chart.ts';
import { escapeHtml, scriptJson } from './escape.ts';
import { milliseconds, percent, short } from './format.ts';
import {
  cdfCharts,
  inFlightOverTime,
  type ShownPoint,
  tokensOverTime,
  ttftByLength,
  ttftOverTime,
} from './load-charts.ts';
import { SCRIPT, STYLE } from './style.ts';
import { runColour, sweepCharts } from './sweep-charts.ts';

type Results = readonly BenchServeResult[];

/** A report of one run, or of several beside each other: one file, with everything in it. */
export function reportPage(runs: Results): string {
  const title = runs.map(({ label }) => label).join(' · ');
  const sweep = runs.some(({ points }) => points.length > 1);
  const body = [
    header(runs, title),
    runs
      .flatMap((run) => caveats(run).map((note) => noteHtml(runs.length > 1 ? `${run.label}: ${note}` : note)))
      .join(''),
    cards(runs),
    `<h2>${sweep ? 'Loads' : 'Result'}</h2>${overviewTable(runs)}`,
    sweep ? `<div class="grid2">${sweepCharts(runs).map(chartHtml).join('')}</div>` : '',
    loads(runs),
    settings(runs),
  ].join('');
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1"><title>${escapeHtml(title)}: load test</title><style>${STYLE}</style></head>
<body>${body}<script type="application/json" id="results">${scriptJson(runs)}</script><script>${SCRIPT}</script></body></html>
`;
}

function noteHtml(text: string): string {
  return `<p class="note">${escapeHtml(text)}</p>`;
}

function header(runs: Results, title: string): string {
  const lines = runs.map(({ label, target, workload, startedAt }) => {
    const name = runs.length > 1 ? `<b>${escapeHtml(label)}</b>: ` : '';
    const text = `${target.model} at ${target.url}, ${target.api}; ${workload}; ${startedAt.slice(0, 16).replace('T', ' ')} UTC`;
    return `<p class="soft">${name}${escapeHtml(text)}</p>`;
  });
  return `<header><div><h1>${escapeHtml(title)}</h1>${lines.join('')}</div><button id="theme" type="button">light / dark</button></header>`;
}

function card(value: string, name: string, tone = ''): string {
  return `<div class="card ${tone}"><b>${escapeHtml(value)}</b><span>${escapeHtml(name)}</span></div>`;
}

/** The figures one asks for first, of a run with one load, or of the best load of a sweep. */
function cards(runs: Results): string {
  const [run] = runs;
  if (runs.length !== 1 || run === undefined || run.points.length === 0) return '';
  const best = highestGoodPoint(run.points, CARRIED);
  const chosen = run.points.length === 1 ? run.points[0] : best;
  const verdict =
    run.points.length > 1 && run.slo !== null
      ? card(
          best?.label ?? 'none',
          `highest load with ${percent(CARRIED)} within the objectives`,
          best === null ? 'bad' : 'good',
        )
      : '';
  const failed = run.points.reduce((sum, { requests }) => sum + requests.failed, 0);
  return `<div class="cards">${verdict}${chosen === undefined || chosen === null ? '' : pointCards(chosen)}${card(short(failed), 'failed requests', failed === 0 ? '' : 'bad')}</div>`;
}

function pointCards({
  outputTokensPerSecond,
  requestsPerSecond,
  ttftMs,
  tpotMs,
  attainment,
  goodputPerSecond,
}: PointResult): string {
  const judged = attainment !== null && goodputPerSecond !== null;
  return [
    card(short(requestsPerSecond), 'requests per second'),
    card(short(outputTokensPerSecond), 'output tokens per second'),
    card(milliseconds(ttftMs.p50), `time to first token; p99 ${milliseconds(ttftMs.p99)}`),
    card(milliseconds(tpotMs.p50), `per output token; p99 ${milliseconds(tpotMs.p99)}`),
    judged
      ? card(
          percent(attainment),
          `within objectives, ${short(goodputPerSecond)} a second`,
          attainment >= CARRIED ? 'good' : 'bad',
        )
      : '',
  ].join('');
}

function table(headings: readonly string[], rows: readonly string[][]): string {
  const cells = (row: readonly string[]): string =>
    row.map((cell) => (cell.startsWith('<td') ? cell : `<td>${cell}</td>`)).join('');
  return `<div class="scroll"><table><thead><tr>${headings.map((name) => `<th>${escapeHtml(name)}</th>`).join('')}</tr></thead><tbody>${rows.map((row) => `<tr>${cells(row)}</tr>`).join('')}</tbody></table></div>`;
}

function named(colour: string, name: string): string {
  return `<td><i style="--colour:${colour}"></i>${escapeHtml(name)}</td>`;
}

function overviewTable(runs: Results): string {
  const headings = [
    'load',
    'requests',
    'failed',
    'requests/s',
    'output tokens/s',
    'prompt tokens',
    'cached',
    'at a time',
    'TTFT p50',
    'p99',
    'TPOT p50',
    'p99',
    'in SLO',
    'goodput/s',
  ];
  const rows = runs.flatMap((run, index) =>
    run.points.map((point) => {
      const { requests, tokens, concurrency, ttftMs, tpotMs, attainment, goodputPerSecond } = point;
      const name = runs.length > 1 ? `${run.label}, ${point.label}` : point.label;
      return [
        named(runColour(index), name),
        short(requests.succeeded + requests.failed),
        requests.failed === 0 ? '0' : `<td class="bad">${short(requests.failed)}</td>`,
        short(point.requestsPerSecond),
        short(point.outputTokensPerSecond),
        short(tokens.prompt),
        percent(tokens.prompt === 0 ? null : tokens.cached / tokens.prompt),
        short(concurrency.mean),
        ...[ttftMs.p50, ttftMs.p99, tpotMs.p50, tpotMs.p99].map(milliseconds),
        percent(attainment),
        goodputPerSecond === null ? '–' : short(goodputPerSecond),
      ];
    }),
  );
  return table(headings, rows);
}

/** Details of each load, one at a time: loads of the same name from several runs together. */
function loads(runs: Results): string {
  const labels = [...new Set(runs.flatMap(({ points }) => points.map(({ label }) => label)))];
  const tabs = labels
    .map(
      (label, index) =>
        `<label><input type="radio" name="load"${index === 0 ? ' checked' : ''}><span>${escapeHtml(label)}</span></label>`,
    )
    .join('');
  const sections = labels.map((label) => {
    const shown = runs.flatMap((run, index): ShownPoint[] =>
      run.points
        .filter((point) => point.label === label)
        .map((point) => ({ name: run.label, colour: runColour(index), point })),
    );
    return `<section class="load">${loadDetails(shown, runs[0]?.slo ?? null)}</section>`;
  });
  return `<h2>In detail</h2>${labels.length > 1 ? `<div class="tabs">${tabs}</div>` : ''}${sections.join('')}`;
}

function loadDetails(shown: readonly ShownPoint[], slo: BenchServeResult['slo']): string {
  const charts = [
    ttftOverTime(shown, slo),
    tokensOverTime(shown),
    ...cdfCharts(shown, slo),
    inFlightOverTime(shown),
    ttftByLength(shown),
  ];
  return `${percentileTable(shown)}<div class="grid2">${charts.map(chartHtml).join('')}</div>${errorTable(shown)}`;
}

function percentileTable(shown: readonly ShownPoint[]): string {
  const rows = shown.flatMap(({ name, colour, point }) => {
    const row = (what: string, d: DistributionSummary): string[] => [
      named(colour, shown.length > 1 ? `${name}, ${what}` : what),
      ...[d.mean, d.p50, d.p90, d.p95, d.p99, d.p999, d.max].map(milliseconds),
      short(d.count),
    ];
    return [
      row('time to first token', point.ttftMs),
      row('between pieces (ITL)', point.itlMs),
      row('per output token (TPOT)', point.tpotMs),
      row('whole answer', point.e2eMs),
      row('sent late by', point.lateMs),
    ];
  });
  return table(['', 'mean', 'p50', 'p90', 'p95', 'p99', 'p99.9', 'max', 'values'], rows);
}

function errorTable(shown: readonly ShownPoint[]): string {
  const rows = shown.flatMap(({ name, colour, point }) =>
    point.errors.map(({ kind, count, examples }) => [
      named(colour, shown.length > 1 ? `${name}, ${kind}` : kind),
      short(count),
      `<td class="text">${escapeHtml(explainKind(kind))}</td>`,
      `<td class="text">${escapeHtml(examples.join(' | '))}</td>`,
    ]),
  );
  return rows.length === 0 ? '' : `<h2>Errors</h2>${table(['kind', 'requests', '', 'for example'], rows)}`;
}

function settings(runs: Results): string {
  return runs
    .map(({ label, settings: chosen, version, tokensPerWord }) => {
      const text = JSON.stringify({ version, tokensPerWord, ...chosen }, null, 2);
      return `<details><summary>Settings of ${escapeHtml(label)}</summary><pre>${escapeHtml(text)}</pre></details>`;
    })
    .join('');
}
