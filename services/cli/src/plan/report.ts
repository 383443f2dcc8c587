import { formatBytes } from '../ui/bytes.ts';
import { formatTable } from '../ui/table.ts';
import { type Evaluation } from './evaluate.ts';
import { numWorkers } from './layout.ts';
import { type Problem, theStation } from './problems.ts';
import type { Plan } from './search.ts';

/** A plan for people. */
export function describePlan(plan: Plan, problems: readonly Problem[]): string {
  const { chosen } = plan;
  const parts = [
    headline(plan),
    section('What runs where', placesTable(chosen)),
    section('Memory', memoryTable(chosen)),
    section('Predicted', predictionTable(plan)),
    ...(problems.length === 0 ? [] : [section('What to know', problemLines(problems))]),
    ...(plan.rejected.length === 0 ? [] : [section('Looked at and not taken', rejectedTable(plan))]),
  ];
  return `${parts.join('\n\n')}\n`;
}

function section(title: string, body: string): string {
  return `${title}\n${body.replace(/^/gm, '  ')}`;
}

function headline({ request, chosen, considered }: Plan): string {
  const { name, print, config } = chosen.layout.model;
  const { traffic } = request;
  const load =
    traffic.requestsPerSecond === null
      ? `${traffic.users} users who ask again and again`
      : `${traffic.requestsPerSecond} requests/s`;
  const verdict = chosen.shortfalls.length === 0 ? 'fits' : 'DOES NOT DO what was asked';
  return [
    `${name} in ${print.weights}, KV pages in ${print.kvFormat}: ${verdict}`,
    `${config.numLayers} layers, ${config.moe.numExperts} experts of which ${config.moe.topK} are chosen; ${load}, prompts of ${traffic.promptTokens} and answers of ${traffic.outputTokens} tokens, context ${traffic.context}, ${(100 * traffic.prefixHit).toFixed(0)} % of prompts cached`,
    `${considered} ways were looked at`,
  ].join('\n');
}

function placesTable({ candidate, layout }: Evaluation): string {
  const rows: (string | number)[][] = [
    [
      'router',
      candidate.routers,
      candidate.router.kind,
      candidate.experts === 'local' ? 'all experts in it' : 'dense layers, KV pages',
    ],
  ];
  for (const { machine, count, share } of layout.groups) {
    const copies = layout.copies === 1 ? '' : `, ${layout.copies} copies of each`;
    rows.push([
      'expert worker',
      count,
      machine.kind,
      `${(100 * share * layout.copies).toFixed(1)} % of the experts each${copies}${layerNote(layout.layerShards)}`,
    ]);
  }
  return formatTable(['process', 'number', 'machine', 'holds'], rows);
}

function layerNote(parts: number): string {
  return parts === 1 ? '' : `, layers dealt out in ${parts} parts`;
}

function memoryTable({ router, workers, layout, userCapacity }: Evaluation): string {
  const { print } = layout.model;
  const lines = [
    `dense weights ${formatBytes(print.denseBytes)}; an expert ${formatBytes(print.expertBytes)}, all of them ${formatBytes(print.allExpertBytes)}; KV ${print.kvTokenBytes} B a token; state ${formatBytes(print.stateBytes)} a sequence`,
  ];
  if (router === null) return lines.join('\n');
  const rows: (string | number)[][] = [
    [
      'router',
      formatBytes(router.total),
      formatBytes(router.limit),
      [
        `weights ${formatBytes(router.weights)}`,
        `KV ${formatBytes(router.kv)} (${router.kvTokens} tokens)`,
        `states ${formatBytes(router.states)} (${router.maxRunning})`,
        `snapshots ${formatBytes(router.snapshots)}`,
        `buffers ${formatBytes(router.buffers)}`,
        `runtime ${formatBytes(router.base)}`,
      ].join(', '),
    ],
  ];
  for (const [i, memory] of workers.entries()) {
    const kind = layout.groups[i]?.machine.kind ?? '';
    const what = `${memory.numExperts} experts ${formatBytes(memory.experts)}, heap rests ${formatBytes(memory.waste)}, runtime ${formatBytes(memory.base)}`;
    rows.push([`worker on ${kind}`, formatBytes(memory.total), formatBytes(memory.limit), what]);
  }
  lines.push(
    formatTable(['process', 'takes', 'of', 'made of'], rows),
    `KV caches hold ${userCapacity} conversations of that context`,
  );
  return lines.join('\n');
}

const ms = (value: number): string =>
  value >= 10_000 ? `${(value / 1000).toFixed(1)} s` : `${value.toFixed(value < 10 ? 1 : 0)} ms`;

function predictionTable({ chosen }: Plan): string {
  const { performance, cost, layout } = chosen;
  if (performance === null) return 'nothing: it does not fit';
  const { decode, prefill } = performance;
  const rows: (string | number)[][] = [
    [
      'output',
      `${performance.outputTokensPerSecond.toFixed(1)} tokens/s`,
      `${performance.requestsPerSecond.toFixed(2)} requests/s`,
    ],
    [
      'first token',
      ms(performance.ttftMs),
      `the prompt alone ${ms(prefill.ms)}, in ${prefill.chunks} chunks, bound by ${theStation(prefill.bottleneck)}${performance.sustained ? '' : '; the queue grows without end'}`,
    ],
    [
      'between tokens',
      ms(performance.itlMs),
      `${performance.decoding.toFixed(1)} streams of a router at a time, bound by ${theStation(decode.cycle.bottleneck)}`,
    ],
  ];
  if (numWorkers(layout) > 0) {
    const perToken =
      ((decode.cost.outBytes + decode.cost.backBytes) * layout.model.shape.numLayers * decode.microBatches) /
      Math.max(1, decode.streams);
    rows.push(
      [
        'workers per token',
        decode.cost.workersPerToken.toFixed(2),
        `${decode.cost.messages.toFixed(1)} messages a layer and micro-batch`,
      ],
      ['network', `${(perToken / 1e6).toFixed(2)} MB a token`, `a prompt ${(prefill.bytes / 1e9).toFixed(2)} GB`],
    );
  }
  if (cost !== null) {
    rows.push(
      ['price', `${cost.perHour.toFixed(2)} an hour`, ''],
      [
        'per million tokens',
        `${cost.perMillionInput.toFixed(3)} in, ${cost.perMillionOutput.toFixed(3)} out`,
        `${cost.perMillionBlended.toFixed(3)} with everything on output`,
      ],
    );
  }
  return formatTable(['', 'value', 'of which'], rows);
}

function problemLines(problems: readonly Problem[]): string {
  return problems.map(({ grade, what, remedy }) => `${grade}: ${what}\n  -> ${remedy}`).join('\n');
}

function rejectedTable({ rejected }: Plan): string {
  const rows = rejected.map(({ evaluation: { candidate, performance }, why }) => [
    candidate.weights,
    candidate.experts === 'local'
      ? 'local'
      : `${candidate.workers.map(({ machine, count }) => `${count} ${machine.kind}`).join(' + ')}`,
    candidate.routers,
    candidate.experts === 'local'
      ? ''
      : `${candidate.copies}, ${candidate.combine}${candidate.layerShards === 1 ? '' : `, ${candidate.layerShards} parts`}`,
    performance === null ? '' : performance.outputTokensPerSecond.toFixed(1),
    why,
  ]);
  return formatTable(['weights', 'workers', 'routers', 'copies', 'tokens/s', 'why not'], rows);
}
