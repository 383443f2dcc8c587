import type { Layout } from './layout.ts';
import { type DecodeStep, decodeStep, type Prefill, prefill } from './step.ts';
import type { Traffic } from './traffic.ts';

/** What a cluster does under a load, in the steady state. Times are means of what a client sees, ms. */
export interface Performance {
  /** Requests and tokens a second of all routers together. */
  requestsPerSecond: number;
  outputTokensPerSecond: number;
  inputTokensPerSecond: number;
  ttftMs: number;
  itlMs: number;
  /** Streams of one router that generate at a time. */
  decoding: number;
  /** Requests of one router that wait for their first token. */
  prefilling: number;
  /** Part of the time for which a router computes prompts. */
  prefillBusy: number;
  /** Requests that arrive and can never be served: those above what the cluster can do. */
  sustained: boolean;
  decode: DecodeStep;
  prefill: Prefill;
}

const BISECTIONS = 60;
/** Relative width at which a search ends. */
const PRECISE = 1e-3;
/** Prefill that leaves decode no time at all is no steady state. */
const MOST_BUSY = 0.98;
/** Part of the time for prompts that an open load may take: beyond it the wait grows faster than the load. */
const PLANNED_BUSY = 0.85;

/**
 * With `requestsPerSecond` requests arrive at that rate, and the streams that generate at a time follow from Little's law;
 * without it each of the users asks again as soon as it has its answer.
 */
export function performanceOf(layout: Layout, traffic: Traffic): Performance {
  const prompt = prefill(layout, traffic.promptTokens, traffic.prefixHit);
  const most = capacityOf(layout, traffic, prompt);
  if (traffic.requestsPerSecond !== null) {
    const wanted = traffic.requestsPerSecond / layout.routers;
    return atRate(layout, traffic, prompt, Math.min(wanted, most), wanted <= most);
  }
  const streams = traffic.users / layout.routers;
  // More requests a second mean more streams; the rate that needs exactly those that there are is the steady state.
  const rate = bisect(most, (perRouter) => {
    const at = atRate(layout, traffic, prompt, perRouter, true);
    return at.decoding + at.prefilling <= streams;
  });
  const steady = atRate(layout, traffic, prompt, rate, true);
  if (rate < most || rate === 0) return steady;
  // Who finds no place in a step waits for the first token.
  const prefilling = Math.max(steady.prefilling, streams - steady.decoding);
  return { ...steady, prefilling, ttftMs: (1000 * prefilling) / rate };
}

/** Requests a second of one router beyond which prompts, or the streams that fit, take more time than there is. */
function capacityOf(layout: Layout, traffic: Traffic, prompt: Prefill): number {
  // Requests that arrive as they like need room; users who wait for their answer fill all the time that there is.
  const most = traffic.requestsPerSecond === null ? MOST_BUSY : PLANNED_BUSY;
  return bisect(most * (1000 / prompt.ms), (rate) => {
    const { decoding, decode, prefillBusy } = atRate(layout, traffic, prompt, rate, true);
    return decoding <= traffic.maxStreams && prefillBusy <= most * prefillShare(layout, decoding, decode.ms);
  });
}

/** Part of the step budget, or of a decode step that is longer, that prefill gets in any case (scheduler.ts). */
const LEAST_SLICE = 0.5;

/**
 * Part of the time that prompts get while streams run: these make `decodeSlowdown` of their step's time at most
 * (docs/decisions/0011), and what goes between two steps is bounded by the step budget. All of it while nothing runs.
 */
function prefillShare({ settings }: Layout, streams: number, stepMs: number): number {
  const { decodeSlowdown, stepBudgetMs } = settings;
  const sliceMs = Math.max(stepBudgetMs - stepMs, LEAST_SLICE * Math.max(stepBudgetMs, stepMs));
  const beside = Math.min(1 - 1 / decodeSlowdown, sliceMs / (sliceMs + stepMs));
  const running = Math.min(1, streams);
  return running * beside + (1 - running);
}

/** The steady state at a rate of requests per router. */
function atRate(layout: Layout, traffic: Traffic, alone: Prefill, rate: number, sustained: boolean): Performance {
  const prompt = besideOthers(layout, alone, rate);
  const prefillBusy = Math.min(MOST_BUSY, (rate * prompt.ms) / 1000);
  const taken = prefillBusy * prompt.routerShare;
  const slowed = { 'router processor': taken, 'router event loop': taken, cores: taken };
  const decode = steadyDecode(layout, traffic, rate, slowed);
  // Above what can be served the wait grows without end; what is left is the prompt's own time.
  const ttftMs = firstToken(layout, prompt, sustained ? prefillBusy : 0, decode);
  return {
    requestsPerSecond: rate * layout.routers,
    outputTokensPerSecond: rate * layout.routers * traffic.outputTokens,
    inputTokensPerSecond: rate * layout.routers * traffic.promptTokens,
    ttftMs,
    itlMs: decode.ms,
    decoding: decode.streams,
    prefilling: (rate * ttftMs) / 1000,
    prefillBusy,
    sustained,
    decode,
    prefill: alone,
  };
}

/** A prompt while the other routers compute theirs: at the workers it waits for them, in proportion to their load. */
function besideOthers({ routers }: Layout, alone: Prefill, rate: number): Prefill {
  const others = Math.min(MOST_BUSY, ((routers - 1) * rate * alone.workerMs) / 1000);
  return { ...alone, ms: alone.ms + (alone.workerMs * others) / (1 - others) };
}

/** The step of as many streams as a rate of requests keeps generating: streams = rate x tokens x step time. */
function steadyDecode(layout: Layout, traffic: Traffic, rate: number, taken: Record<string, number>): DecodeStep {
  const perStream = (rate * Math.max(1, traffic.outputTokens - 1)) / 1000;
  const stepOf = (streams: number): DecodeStep => decodeStep(layout, streams, meanContext(traffic), taken);
  // Streams that a step of so many streams would leave behind: fewer than there are once there are enough of them.
  const streams = bisect(traffic.maxStreams + 1, (count) => perStream * stepOf(count).ms >= count);
  const step = stepOf(streams);
  // Between two tokens at least one stream is in the step; below one the step is that of one.
  return { ...step, streams: Math.max(streams, perStream * step.ms) };
}

/** Context of a stream halfway through its answer. */
export function meanContext({ context, outputTokens }: Traffic): number {
  return Math.max(1, context - outputTokens / 2);
}

/**
 * Waiting behind other prompts, and the prompt's own time. Beside running streams what lasts longer than the burst gets only
 * its part of the time. Prompts of one length make it a queue with deterministic service: half of rho/(1 - rho) services.
 */
function firstToken(layout: Layout, prompt: Prefill, busy: number, decode: DecodeStep): number {
  const share = prefillShare(layout, decode.streams, decode.ms);
  const burst = Math.min(prompt.ms, layout.settings.prefillBurstMs);
  const service = prompt.ms / share;
  const rho = Math.min(MOST_BUSY, busy / share);
  return burst + (prompt.ms - burst) / share + (service * rho) / (2 * (1 - rho));
}

/** The largest value up to `most` that is good, where all smaller ones are good too, or a little less. */
function bisect(most: number, isGood: (value: number) => boolean): number {
  if (isGood(most)) return most;
  let [good, bad] = [0, most];
  for (let i = 0; i < BISECTIONS && bad - good > PRECISE * bad; i++) {
    const middle = (good + bad) / 2;
    if (isGood(middle)) good = middle;
    else bad = middle;
  }
  return good;
}
