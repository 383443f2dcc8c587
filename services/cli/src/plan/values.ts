import { fail } from '@guildhall/common';
import { stringify } from 'yaml';
import { EXPERT_BASE_BYTES } from '../catalogue/host-costs.ts';
import { type Evaluation, ROUTER_SETTINGS } from './evaluate.ts';
import type { WorkerGroup } from './layout.ts';
import type { Machine } from './machines.ts';
import type { Plan } from './search.ts';

const MIB = 2 ** 20;
/** Memory limit of a pod above what is planned for it: page cache of the checkpoint, growth of the heap. */
const POD_ROOM = 1.1;
/** Host memory of a pod whose weights are on a card. */
const CARD_HOST_MIB = 8192;

/** Values of the Helm chart (charts/guildhall) that make a plan run, as YAML with what they mean. */
export function helmValues(plan: Plan, { source }: { source: string | null }): string {
  const { chosen, request } = plan;
  const { performance, router } = chosen;
  if (router === null || performance === null) throw fail('internal', 'values of a plan that does not fit');
  const header = [
    `${chosen.layout.model.name}: ${performance.outputTokensPerSecond.toFixed(1)} tokens/s, first token after ${performance.ttftMs.toFixed(0)} ms, ${performance.itlMs.toFixed(1)} ms between tokens predicted,`,
    `for prompts of ${request.traffic.promptTokens} and answers of ${request.traffic.outputTokens} tokens; made by \`guildhall plan\`.`,
    ...(source === null && request.model.name !== 'tiny'
      ? ['Set model.source: where the checkpoint is, such as hf://ORG/NAME@COMMIT.']
      : []),
  ];
  return `${header.map((line) => `# ${line}`).join('\n')}\n${stringify(valuesOf(plan, source))}`;
}

/** The values as an object. */
export function valuesOf({ chosen, request }: Plan, source: string | null): Record<string, unknown> {
  const { candidate, layout } = chosen;
  const { print } = layout.model;
  const onCards = [candidate.router, ...candidate.workers.map(({ machine }) => machine)].some(isCard);
  return {
    model: {
      ...(source === null ? {} : { source }),
      weights: print.weights,
      kvDtype: request.kvDtype,
      combine: layout.combine,
    },
    ...(onCards ? { gpu: { mode: 'devicePlugin' } } : {}),
    router: routerValues(chosen),
    expertGroups: layout.groups.flatMap((group, i) => groupsOf(chosen, group, i)),
    ...(candidate.experts === 'local' ? {} : { controller: { config: controllerConfig(chosen) } }),
  };
}

function isCard({ accelerator }: Machine): boolean {
  return accelerator === 'cuda';
}

function routerValues({ candidate, router, layout, performance }: Evaluation): Record<string, unknown> {
  if (router === null || performance === null) throw fail('internal', 'a router that does not fit');
  const { settings } = layout;
  const card = isCard(candidate.router);
  return {
    replicas: candidate.routers,
    config: {
      ...(candidate.experts === 'local' ? { experts: 'local' } : {}),
      maxRunning: router.maxRunning,
      kvMemory: sizeOf(router.kv),
      ...(router.snapshots > 0 ? { snapshotMemory: sizeOf(router.snapshots) } : {}),
      ...(settings.decodeSlowdown === ROUTER_SETTINGS.decodeSlowdown
        ? {}
        : { decodeSlowdown: settings.decodeSlowdown }),
    },
    resources: resourcesOf(candidate.router, card ? CARD_HOST_MIB * MIB : router.total),
    ...(card ? { gpus: 1 } : {}),
  };
}

/** One group, or one for each part of the layers. */
function groupsOf(chosen: Evaluation, group: WorkerGroup, index: number): Record<string, unknown>[] {
  const parts = chosen.layout.layerShards;
  if (parts === 1) return [groupValues(chosen, group, index)];
  const part = { ...group, count: group.count / parts };
  return Array.from({ length: parts }, (_, i) => ({
    ...groupValues(chosen, part, index),
    name: `layers-${i + 1}-of-${parts}`,
    shard: `${i + 1}/${parts}`,
  }));
}

function groupValues(
  { workers, layout }: Evaluation,
  { machine, count }: WorkerGroup,
  index: number,
): Record<string, unknown> {
  const memory = workers[index];
  if (memory === undefined) throw fail('internal', 'a group without memory');
  const card = isCard(machine);
  const name = layout.groups.length === 1 ? 'all' : machine.kind.toLowerCase().replaceAll(/[^a-z0-9-]/g, '-');
  return {
    name,
    replicas: count,
    // What the controller may place here: its share, and what a lost worker would leave to it.
    config: { weightMemoryMib: Math.floor((memory.limit - EXPERT_BASE_BYTES) / MIB) },
    resources: resourcesOf(machine, card ? CARD_HOST_MIB * MIB : memory.limit),
    ...(card ? { gpus: 1 } : {}),
  };
}

function resourcesOf(machine: Machine, bytes: number): Record<string, unknown> {
  const mib = Math.ceil((bytes * POD_ROOM) / MIB);
  const cpu = isCard(machine)
    ? Math.max(1, Math.floor(machine.cores / machine.perHost) - 1)
    : Math.max(1, machine.cores - 1);
  return { requests: { cpu: String(cpu), memory: `${mib}Mi` }, limits: { memory: `${mib}Mi` } };
}

function controllerConfig({ candidate, slots }: Evaluation): Record<string, unknown> {
  return {
    replicas: candidate.copies,
    maxReplicas: Math.max(candidate.copies, 4),
    minWorkers: slots - candidate.routers,
  };
}

function sizeOf(bytes: number): string {
  return `${Math.ceil(bytes / MIB)}MiB`;
}
