import { Command } from 'commander';
import { fail } from '@guildhall/common';
import {
  type AutoscalerPolicy,
  type AutoscalerStatus,
  decide,
  type Plan,
  readPolicy,
  type View,
} from '@guildhall/controller/autoscaler';
import { addClusterOptions, clusterAccess, type ClusterFlags } from '../stack/cluster-target.ts';
import { ClusterView } from '../stack/cluster-view.ts';
import { StateDir } from '../stack/state-dir.ts';
import { formatTable } from '../ui/table.ts';

interface AutoscalerFlags extends ClusterFlags {
  policy?: string;
  json: boolean;
}

/** `guildhall autoscaler`: what the autoscaler sees, wants and is held back by; with another policy what it would want. */
export function autoscalerCommand(): Command {
  const command = new Command('autoscaler')
    .description('show what the autoscaler sees, what it wants, why, and what holds it back; changes nothing')
    .option('--policy <file>', 'what it would decide now under another policy')
    .option('--json', 'print one JSON object', false);
  return addClusterOptions(command).action(async (flags: AutoscalerFlags) => {
    // A policy that is wrong is told without a cluster.
    const policy = flags.policy === undefined ? null : readPolicy(flags.policy);
    const view = new ClusterView(clusterAccess(flags, new StateDir(flags.stateDir ?? null), process.env));
    try {
      await view.start();
      const status = await view.autoscalerStatus();
      if (status === null)
        throw fail(
          'not_found',
          'no controller with an autoscaler leads this cluster; see --autoscaler-policy of the controller',
        );
      process.stdout.write(render(status, policy, flags.json));
    } finally {
      await view.stop();
    }
  });
}

/** What is printed; `policy` is tried on what the autoscaler saw last. */
export function render(status: AutoscalerStatus, policy: AutoscalerPolicy | null, json: boolean): string {
  const whatIf = policy === null || status.view === null ? null : decide(status.view, policy);
  if (json) return `${JSON.stringify(whatIf === null ? status : { ...status, whatIf })}\n`;
  return `${asText(status, whatIf).join('\n')}\n`;
}

function asText(status: AutoscalerStatus, whatIf: Plan | null): string[] {
  const { controller, mode, blind, view, plan, policy } = status;
  const lines = [`autoscaler of ${controller}: mode ${mode}`];
  if (blind !== null) lines.push(`nothing can be decided: ${blind}`);
  if (view === null || plan === null) return lines;
  const budget = policy.gpuBudget === null ? '' : `, budget ${policy.gpuBudget} GPUs`;
  const { held, inGateways, inRouters, idleMs } = view.demand;
  const idle = idleMs === null ? 'not known' : `${Math.round(idleMs / 1000)} s`;
  lines.push(
    `the model is ${plan.state.replace('_', ' ')}${budget}`,
    `requests: ${held} held, ${inGateways} in gateways, ${inRouters} in routers; idle for ${idle}`,
  );
  if (plan.itlMs !== null)
    lines.push(`between tokens (95 %): ${plan.itlMs.now.toFixed(1)} ms, ${plan.itlMs.desired.toFixed(1)} ms predicted`);
  lines.push('', ...planLines(view, plan));
  if (whatIf !== null) lines.push('', 'under the given policy:', '', ...planLines(view, whatIf));
  return lines;
}

function planLines(view: View, plan: Plan): string[] {
  const ready = new Map(view.workloads.map(({ name, pods }) => [name, pods.ready]));
  const rows = plan.decisions.map(({ workload, actual, desired, utilisation, predicted, reason, message }) => [
    workload,
    ready.get(workload) ?? 0,
    actual,
    desired,
    percent(utilisation),
    percent(predicted),
    reason,
    message,
  ]);
  const lines = [formatTable(['group', 'ready', 'replicas', 'wanted', 'busy', 'predicted', 'reason', 'why'], rows)];
  for (const { workload, holds } of plan.decisions)
    for (const { reason, message } of holds) lines.push(`${workload} is held back (${reason}): ${message}`);
  for (const { workload, reason, message } of plan.alarms) lines.push(`ALARM ${workload} (${reason}): ${message}`);
  return lines;
}

function percent(share: number | null): string {
  return share === null ? '?' : `${(share * 100).toFixed(0)} %`;
}
