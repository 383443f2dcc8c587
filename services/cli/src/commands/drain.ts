import { Command } from 'commander';
import { fail, systemClock } from '@guildhall/common';
import { control, type router } from '@guildhall/proto';
import { addClusterOptions, type ClusterAccess, clusterAccess, type ClusterFlags } from '../stack/cluster-target.ts';
import { type ClusterSnapshot, ClusterView } from '../stack/cluster-view.ts';
import { drainRouter } from '../stack/router-client.ts';
import { StateDir } from '../stack/state-dir.ts';
import { positiveInteger } from '../ui/arguments.ts';
import { Progress } from '../ui/progress.ts';
import { drainWorker, type WorkerDrainFlags } from './drain-worker.ts';

interface DrainFlags extends ClusterFlags, WorkerDrainFlags {
  force: boolean;
}

/**
 * `guildhall drain ID`: moves a router's streams to the others, without a break for their clients; or a worker's experts to the
 * other workers.
 */
export function drainCommand(): Command {
  const command = new Command('drain')
    .description('move the streams of a router to other routers, or the experts of a worker to other workers')
    .argument('<id>', 'id of a router or worker, such as router-1 or expert-2; `guildhall status` lists them');
  return addClusterOptions(command)
    .option(
      '--timeout <seconds>',
      "routers: end what nobody took over by then (default: the router's own limit); workers: give up waiting (default: 600)",
      positiveInteger,
    )
    .option('--force', 'routers: also where no other router could go on with its streams', false)
    .option('--undo', 'workers: give it experts again', false)
    .option('--forget', 'workers: drop the request of a worker that is gone for good', false)
    .option('--no-wait', 'workers: do not wait until nobody needs it')
    .option('--json', 'print one JSON object when it is done', false)
    .action(async (id: string, flags: DrainFlags) => {
      const access = clusterAccess(flags, new StateDir(flags.stateDir ?? null), process.env);
      const router = await workerOrRouter(id, access, flags);
      if (router !== null) await drain(router, access, flags);
    });
}

/** The router of this id; null for a worker, after its drain. */
async function workerOrRouter(id: string, access: ClusterAccess, flags: DrainFlags): Promise<control.Member | null> {
  const view = new ClusterView(access);
  try {
    await view.start();
    if (!isWorker(id, view.snapshot(), flags)) return drainable(id, view.snapshot(), flags.force);
    await drainWorker(id, view, flags);
    return null;
  } finally {
    await view.stop();
  }
}

/** True for a live worker; one that is gone can still be undone or forgotten. */
function isWorker(id: string, { members, stale }: ClusterSnapshot, flags: DrainFlags): boolean {
  if (stale) throw fail('redis_unavailable', 'Redis does not answer, so the members are not known');
  if (flags.undo || flags.forget) return true;
  return members.some((one) => one.kind === control.MemberKind.MEMBER_KIND_EXPERT && one.id === id);
}

function isRouter(member: control.Member): boolean {
  return member.kind === control.MemberKind.MEMBER_KIND_ROUTER;
}

function stateOf(member: control.Member): string {
  return member.draining ? 'draining' : member.ready ? 'ready' : 'starting';
}

/**
 * The router to drain. Throws `redis_unavailable` when the members are not known, `not_found` for an unknown id, with
 * those that exist, and `no_router` without `force` when no other one could go on with its streams.
 */
export function drainable(id: string, { members, stale }: ClusterSnapshot, force: boolean): control.Member {
  if (stale) throw fail('redis_unavailable', 'Redis does not answer, so the routers are not known');
  const routers = members.filter(isRouter);
  const member = routers.find((one) => one.id === id);
  if (member === undefined) {
    const other = members.find((one) => one.id === id);
    const what = other === undefined ? `there is no ${id}` : `${id} is neither a router nor a worker`;
    const list = members
      .filter((one) => isRouter(one) || one.kind === control.MemberKind.MEMBER_KIND_EXPERT)
      .map((one) => `${one.id} (${stateOf(one)})`)
      .join(', ');
    throw fail('not_found', `${what}; there are: ${list === '' ? 'none' : list}`);
  }
  // A stream stays within its checkpoint and numerics class.
  const successors = routers.filter(
    (one) =>
      one.id !== id &&
      one.ready &&
      !one.draining &&
      one.modelFingerprint === member.modelFingerprint &&
      one.numericsId === member.numericsId,
  );
  if (successors.length > 0 || force) return member;
  throw fail(
    'no_router',
    `no other router could go on with the streams of ${id}: start one of the same checkpoint and formats first, or give --force`,
  );
}

async function drain(member: control.Member, access: ClusterAccess, flags: DrainFlags): Promise<void> {
  const clock = systemClock;
  const progress = new Progress({ quiet: flags.json });
  const startedMs = clock.monotonicMs();
  let last: router.DrainProgress | null = null;
  progress.update(`${member.id}: asking it to drain`);
  for await (const step of drainRouter(member.address, access, (flags.timeout ?? 0) * 1000)) {
    last = step;
    progress.update(`${member.id}: ${describe(step)}`, step.moved / Math.max(1, step.moved + left(step)));
  }
  const seconds = Math.round(clock.monotonicMs() - startedMs) / 1000;
  if (last === null) throw fail('router_lost', `${member.id} ended the drain without a word`);
  if (left(last) > 0)
    throw fail('deadline_exceeded', `${member.id} is not empty after ${seconds} s: ${describe(last)}`);
  if (flags.json) {
    const { running, waiting, parked, moved } = last;
    const result = { router: member.id, moved, running, waiting, parked, seconds };
    process.stdout.write(`${JSON.stringify(result)}\n`);
    return;
  }
  progress.done(`${member.id} is empty after ${seconds.toFixed(1)} s: ${last.moved} streams moved`);
  process.stdout.write(`${member.id} takes nothing new until it is started again.\n`);
}

function left({ running, waiting, parked }: router.DrainProgress): number {
  return running + waiting + parked;
}

function describe({ running, waiting, parked, moved }: router.DrainProgress): string {
  return `${running} running, ${waiting} waiting, ${parked} parked, ${moved} moved`;
}
