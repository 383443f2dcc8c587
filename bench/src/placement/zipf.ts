import { seededRandom } from '@guildhall/router/policy';
import type { GateTrace } from './gate-trace.ts';

/** A trace that nobody recorded: hot and cold experts, and experts that are chosen together. */
export interface ZipfShape {
  seed: number;
  numLayers: number;
  numExperts: number;
  topK: number;
  tokens: number;
  /** The expert of rank r is chosen with weight r^-exponent; ranks are a permutation of each layer's own. */
  exponent: number;
  /** Topics of tokens, and sets of experts that belong to each: every expert is in one. */
  topics: number;
  /** Share of a token's choices that are made among the experts of its topic. */
  together: number;
  /** Topics have popularities r^-exponent too; which rank a topic has, this tells. */
  turn: number;
}

/** Draws a trace. The same shape gives the same trace; `turn` alone shifts the load to other experts. */
export function zipfTrace(shape: ZipfShape): GateTrace {
  const { seed, numLayers, numExperts, topK, tokens } = shape;
  const topics = topicsOfTokens(shape);
  const layers = Array.from({ length: numLayers }, (_, layer) => {
    // What belongs to the layer depends on the seed, not on the turn.
    const model = seededRandom(seed * 7919 + layer);
    const tables = tablesOf(shape, shuffled(numExperts, model), shuffled(numExperts, model));
    const next = seededRandom((seed + shape.turn * 104729) * 6271 + layer);
    const sets = new Uint16Array(tokens * topK);
    for (let token = 0; token < tokens; token++) {
      drawSet(shape, tables, topics[token] as number, next, sets.subarray(token * topK, (token + 1) * topK));
    }
    return sets;
  });
  return { numLayers, numExperts, topK, layers };
}

/** Experts with their weights summed up, for drawing. */
interface Table {
  experts: number[];
  sums: Float64Array;
}

interface Tables {
  all: Table;
  topics: Table[];
}

function tablesOf({ exponent, topics }: ZipfShape, ranks: readonly number[], groups: readonly number[]): Tables {
  const weight = (expert: number): number => (1 + (ranks[expert] as number)) ** -exponent;
  const table = (experts: number[]): Table => {
    let sum = 0;
    return { experts, sums: Float64Array.from(experts, (expert) => (sum += weight(expert))) };
  };
  const all = ranks.map((_, expert) => expert);
  return {
    all: table(all),
    topics: Array.from({ length: topics }, (_, topic) =>
      table(all.filter((expert) => (groups[expert] as number) % topics === topic)),
    ),
  };
}

function drawSet(shape: ZipfShape, tables: Tables, topic: number, next: () => number, out: Uint16Array): void {
  const own = tables.topics[topic] as Table;
  const most = Math.min(out.length, own.experts.length);
  let count = 0;
  let fromOwn = 0;
  while (count < out.length) {
    const among = fromOwn < most && next() < shape.together ? own : tables.all;
    const expert = draw(among, next());
    if (out.subarray(0, count).includes(expert)) continue;
    if (among === own) fromOwn += 1;
    out[count++] = expert;
  }
}

function draw({ experts, sums }: Table, at: number): number {
  const wanted = at * (sums[sums.length - 1] as number);
  let low = 0;
  let high = sums.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((sums[middle] as number) > wanted) high = middle;
    else low = middle + 1;
  }
  return experts[low] as number;
}

/** The topic of each token, popular topics more often: tokens of many streams, one after the other. */
function topicsOfTokens({ seed, tokens, topics, exponent, turn }: ZipfShape): Uint16Array {
  const next = seededRandom(seed * 31 + turn);
  let sum = 0;
  const sums = Float64Array.from({ length: topics }, (_, rank) => (sum += (1 + rank) ** -exponent));
  const table = { experts: shuffled(topics, seededRandom(seed * 17 + turn)), sums };
  return Uint16Array.from({ length: tokens }, () => draw(table, next()));
}

function shuffled(count: number, next: () => number): number[] {
  const order = Array.from({ length: count }, (_, i) => i);
  for (let i = count - 1; i > 0; i--) {
    const j = Math.floor(next() * (i + 1));
    [order[i], order[j]] = [order[j] as number, order[i] as number];
  }
  return order;
}
