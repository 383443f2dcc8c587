import type { Evaluation } from './evaluate.ts';
import { numWorkers } from './layout.ts';
import { limitOf, pagedTokens } from './memory.ts';
import { formatBytes } from '../ui/bytes.ts';
import type { PlanRequest } from './request.ts';

/** Something that a reader must know before they believe the plan. */
export interface Problem {
  code:
    | 'no_cuda_backend'
    | 'router_memory'
    | 'expert_memory'
    | 'context'
    | 'rate'
    | 'ttft'
    | 'itl'
    | 'users'
    | 'event_loop'
    | 'router_link'
    | 'prefill_network'
    | 'one_copy'
    | 'one_host'
    | 'one_router'
    | 'network_of_cores';
  /** `fatal`: the plan does not do what was asked. */
  grade: 'fatal' | 'warning' | 'note';
  what: string;
  remedy: string;
}

/** A station in a sentence. */
export function theStation(name: string): string {
  return `the ${name}`;
}

/** Everything that will not work or limits the plan, the worst first. */
export function problemsOf(request: PlanRequest, evaluation: Evaluation): Problem[] {
  const found = [...fitProblems(request, evaluation), ...targetProblems(request, evaluation)];
  found.push(...limitNotes(request, evaluation), ...redundancyNotes(request, evaluation));
  const order = ['fatal', 'warning', 'note'];
  return found.toSorted((a, b) => order.indexOf(a.grade) - order.indexOf(b.grade));
}

function fitProblems(request: PlanRequest, { layout, shortfalls, candidate }: Evaluation): Problem[] {
  const found: Problem[] = [];
  const { print, config, name } = layout.model;
  const { context } = request.traffic;
  if (
    [candidate.router, ...candidate.workers.map(({ machine }) => machine)].some(
      ({ accelerator }) => accelerator === 'cuda',
    )
  ) {
    found.push({
      code: 'no_cuda_backend',
      grade: 'warning',
      what: 'this version computes on CPUs only; figures for cards are predictions for a CUDA backend that does not exist yet',
      remedy: 'use them to compare machines, and plan CPU machines for what is to run now',
    });
  }
  if (shortfalls.includes('router_memory')) {
    const local = layout.groups.length === 0 ? ` and all experts ${formatBytes(print.allExpertBytes)}` : '';
    const sequence = pagedTokens(context) * print.kvTokenBytes + print.stateBytes;
    found.push({
      code: 'router_memory',
      grade: 'fatal',
      what: `a router does not fit ${candidate.router.kind} (${formatBytes(limitOf(candidate.router))} usable): dense weights take ${formatBytes(print.denseBytes)}${local}, one sequence of ${context} tokens ${formatBytes(sequence)}`,
      remedy:
        'a format with fewer bits (--weights q8 or q4), --kv-dtype fp8, a shorter --context, or machines with more memory',
    });
  }
  if (shortfalls.includes('expert_memory')) {
    const all = print.allExpertBytes * candidate.copies;
    found.push({
      code: 'expert_memory',
      grade: 'fatal',
      what: `${candidate.copies} ${candidate.copies === 1 ? 'copy' : 'copies'} of ${config.moe.numExperts * config.numLayers} experts take ${formatBytes(all)}, the workers have ${formatBytes(candidate.workers.reduce((sum, { machine, count }) => sum + limitOf(machine) * count, 0))}`,
      remedy: 'more or larger machines, fewer bits (--weights q4), or --copies 1',
    });
  }
  if (context > config.maxPositionEmbeddings) {
    found.push({
      code: 'context',
      grade: 'fatal',
      what: `${name} has ${config.maxPositionEmbeddings} positions, --context is ${context}`,
      remedy: 'a shorter --context, or a checkpoint whose config.json extends its positions (YaRN)',
    });
  }
  return found;
}

const seconds = (ms: number): string => (ms >= 10_000 ? `${(ms / 1000).toFixed(0)} s` : `${ms.toFixed(0)} ms`);

function targetProblems({ traffic }: PlanRequest, evaluation: Evaluation): Problem[] {
  const { performance, shortfalls, userCapacity } = evaluation;
  if (performance === null) return [];
  const found: Problem[] = [];
  if (shortfalls.includes('rate')) {
    found.push({
      code: 'rate',
      grade: 'fatal',
      what: `${performance.requestsPerSecond.toFixed(2)} of ${traffic.requestsPerSecond} requests/s are served; ${rateLimit(evaluation)}`,
      remedy: 'more routers, a higher prefix hit rate, shorter prompts, or faster links',
    });
  }
  if (shortfalls.includes('ttft')) {
    const { prefill } = performance;
    found.push({
      code: 'ttft',
      grade: 'fatal',
      what: `the first token comes after ${seconds(performance.ttftMs)}, ${seconds(prefill.ms)} of which is the prompt itself, bound by ${theStation(prefill.bottleneck)}`,
      remedy:
        'more routers (less waiting), a faster link, --combine partial, a higher prefix hit rate, or experts in the routers (--experts local)',
    });
  }
  if (shortfalls.includes('itl')) {
    found.push({
      code: 'itl',
      grade: 'fatal',
      what: `${seconds(performance.itlMs)} between tokens, bound by ${theStation(performance.decode.cycle.bottleneck)}`,
      remedy: 'fewer and larger workers (fewer messages), more routers (fewer streams each), or faster machines',
    });
  }
  if (shortfalls.includes('users')) {
    found.push({
      code: 'users',
      grade: 'fatal',
      what: `the KV caches hold the context of ${userCapacity} of ${traffic.users} users`,
      remedy:
        'more routers, --kv-dtype fp8, a shorter --context; or host memory and disk tiers (kvHostMemory, kvDisk), from which pages are copied back',
    });
  }
  return found;
}

/** What keeps a router from more requests. */
function rateLimit({ performance, router }: Evaluation): string {
  if (performance === null) return 'nothing fits';
  if (router !== null && performance.decoding > 0.9 * router.maxRunning) return 'memory for further streams is short';
  return `prompts and steps take all of a router's time; prompts are bound by ${theStation(performance.prefill.bottleneck)}`;
}

/** Above this a station is what the cluster waits for. */
const BINDING = 0.85;

function limitNotes(_request: PlanRequest, { performance, layout }: Evaluation): Problem[] {
  if (performance === null) return [];
  const found: Problem[] = [];
  const { busy } = performance.decode.cycle;
  if ((busy['router event loop'] ?? 0) > BINDING) {
    found.push({
      code: 'event_loop',
      grade: 'warning',
      what: `the router's event loop is ${percent(busy['router event loop'])} busy in decode: messages bind, not the machines`,
      remedy: 'fewer and larger workers, more routers with fewer streams each, --combine partial',
    });
  }
  if (Math.max(busy['router link in'] ?? 0, busy['router link out'] ?? 0) > BINDING) {
    found.push({
      code: 'router_link',
      grade: 'warning',
      what: 'the network card of the router is busy all the time in decode',
      remedy: 'a faster link, more routers, --combine partial',
    });
  }
  if (layout.groups.length > 0 && performance.prefill.routerShare < 0.9 && performance.prefill.ms > 1000) {
    const gigabytes = performance.prefill.bytes / 1e9;
    found.push({
      code: 'prefill_network',
      grade: 'note',
      what: `a prompt of ${performance.prefill.tokens} tokens moves ${gigabytes.toFixed(1)} GB over the router's link, layer by layer, and takes ${seconds(performance.prefill.ms)}`,
      remedy: 'prefixes that are shared (system prompts, earlier turns) are not computed again; measure --prefix-hit',
    });
  }
  return found;
}

function percent(share = 0): string {
  return `${(100 * share).toFixed(0)} %`;
}

function redundancyNotes({ machines }: PlanRequest, { candidate, layout, workers }: Evaluation): Problem[] {
  const found: Problem[] = [];
  if (candidate.experts === 'remote' && candidate.copies < 2) {
    const most = Math.max(0, ...workers.map(({ experts }) => experts));
    const rate = Math.max(1, numWorkers(layout) - 1) * 256 * 2 ** 20;
    found.push({
      code: 'one_copy',
      grade: 'warning',
      what: `each expert is on one worker: when one is lost every stream pauses until the others have loaded its ${formatBytes(most)}, about ${seconds((1000 * most) / rate)} at 256 MiB/s each, if they have room`,
      remedy: '--copies 2 with a worker more, or expertFallback local with room in the routers',
    });
  }
  if (candidate.copies > 1 && machines.every(({ perHost, slots }) => slots === perHost) && machines.length === 1) {
    found.push({
      code: 'one_host',
      grade: 'note',
      what: 'all copies are in one machine: they survive a lost process, not a lost machine',
      remedy: 'two machines or more',
    });
  }
  if (candidate.routers === 1) {
    found.push({
      code: 'one_router',
      grade: 'note',
      what: 'with one router nothing is served while it restarts, and its streams have nowhere to go',
      remedy: 'two routers: the gateway then resumes streams on the other one',
    });
  }
  return found;
}
