import type { Evaluation } from './evaluate.ts';
import type { Problem } from './problems.ts';
import type { Plan } from './search.ts';

/** Version of what `guildhall plan --json` prints. */
const SCHEMA = 1;

/** A plan for programs: everything that the text says, with units in the names. */
export function planJson(plan: Plan, problems: readonly Problem[], values: string | null): unknown {
  const { request, chosen, rejected, considered } = plan;
  const { print, config, name } = chosen.layout.model;
  return {
    schema: SCHEMA,
    model: {
      name,
      weights: print.weights,
      kvFormat: print.kvFormat,
      numLayers: config.numLayers,
      numExperts: config.moe.numExperts,
      topK: config.moe.topK,
      denseBytes: print.denseBytes,
      expertBytes: print.expertBytes,
      allExpertBytes: print.allExpertBytes,
      kvTokenBytes: print.kvTokenBytes,
      pageBytes: print.pageBytes,
      stateBytes: print.stateBytes,
      rowBytes: print.rowBytes,
    },
    traffic: request.traffic,
    machines: request.machines.map(({ host: _host, ...machine }) => machine),
    meets: chosen.shortfalls.length === 0,
    problems,
    chosen: evaluationJson(chosen),
    rejected: rejected.map(({ evaluation, why }) => ({ why, ...evaluationJson(evaluation) })),
    considered,
    values,
  };
}

function evaluationJson({
  candidate,
  layout,
  router,
  workers,
  performance,
  userCapacity,
  shortfalls,
  slots,
  cost,
}: Evaluation) {
  return {
    experts: candidate.experts,
    weights: candidate.weights,
    combine: candidate.combine,
    copies: candidate.copies,
    layerShards: candidate.layerShards,
    routers: { kind: candidate.router.kind, count: candidate.routers, memory: router },
    workers: layout.groups.map(({ machine, count, share }, i) => ({
      kind: machine.kind,
      count,
      share,
      memory: workers[i] ?? null,
    })),
    slots,
    shortfalls,
    userCapacity,
    settings: layout.settings,
    performance,
    cost,
  };
}
