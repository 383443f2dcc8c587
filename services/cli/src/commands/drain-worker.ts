import { hostname, userInfo } from 'node:os';
import { type DrainRequest, type DrainStore, fail, isGuildhallError, systemClock } from '@guildhall/common';
import { control } from '@guildhall/proto';
import type { ClusterSnapshot, ClusterView } from '../stack/cluster-view.ts';
import { Progress } from '../ui/progress.ts';

export interface WorkerDrainFlags {
  undo: boolean;
  forget: boolean;
  wait: boolean;
  /** Seconds. */
  timeout: number | null;
  json: boolean;
}

const DEFAULT_TIMEOUT_S = 600;
const LOOK_MS = 250;

/** Name of a worker's request. */
export function workerTag(id: string): string {
  return `expert/${id}`;
}

/** Asks that a worker gives up its experts, and waits until nobody needs it. */
export async function drainWorker(id: string, view: ClusterView, flags: WorkerDrainFlags): Promise<void> {
  if (flags.undo || flags.forget) return takeBack(id, view, flags);
  const { drains } = view;
  const request = newRequest(id);
  const fresh = await drains.request(request);
  const progress = new Progress({ quiet: flags.json });
  progress.update(fresh ? `${id}: asked to drain` : `${id}: was asked to drain before`);
  if (!flags.wait)
    return say(flags, { worker: id, state: 'asked' }, `${id} is asked to drain; the controller does it.`);
  const startedMs = systemClock.monotonicMs();
  const last = await waitDone(id, view, request, progress, flags);
  const seconds = Math.round(systemClock.monotonicMs() - startedMs) / 1000;
  if (last.state !== 'done') throw notDone(id, last, seconds, view.snapshot());
  progress.done(`${id} is not needed any more after ${seconds.toFixed(1)} s`);
  const hint = `Stop it, or give it experts again with \`guildhall drain ${id} --undo\`.`;
  say(flags, { worker: id, state: last.state, keeps: last.keeps, seconds }, hint);
}

function newRequest(id: string): DrainRequest {
  const by = `${userInfo().username}@${hostname()}`;
  return { tag: workerTag(id), by, atMs: systemClock.nowMs(), state: 'asked', keeps: 0, why: '' };
}

function say(flags: WorkerDrainFlags, result: Record<string, unknown>, text: string): void {
  process.stdout.write(flags.json ? `${JSON.stringify(result)}\n` : `${text}\n`);
}

/** Throws `not_found` when nobody asked, and `id_in_use` for a live worker that is to be forgotten. */
async function takeBack(id: string, view: ClusterView, flags: WorkerDrainFlags): Promise<void> {
  const { members } = view.snapshot();
  const live = members.some((one) => one.kind === control.MemberKind.MEMBER_KIND_EXPERT && one.id === id);
  if (flags.forget && live)
    throw fail('id_in_use', `${id} is alive: stop it first, or give it experts again with --undo`);
  if (!(await view.drains.cancel(workerTag(id)))) throw fail('not_found', `nobody asked ${id} to drain`);
  const text = flags.forget ? `${id} is forgotten.` : `${id} is no longer asked to drain and gets experts again.`;
  say(flags, { worker: id, state: flags.forget ? 'forgotten' : 'undone' }, text);
}

/**
 * The request when it is done, or as it is when the time is over. One that Redis lost is made again; one that somebody took
 * back throws `cancelled`.
 */
async function waitDone(
  id: string,
  view: ClusterView,
  request: DrainRequest,
  progress: Progress,
  flags: WorkerDrainFlags,
): Promise<DrainRequest> {
  const endMs = systemClock.monotonicMs() + (flags.timeout ?? DEFAULT_TIMEOUT_S) * 1000;
  let last = request;
  let generation = '';
  let most = 0;
  while (systemClock.monotonicMs() < endMs) {
    const now = await look(view.drains);
    if (now !== null) {
      const found = now.requests.get(request.tag);
      if (found === undefined && (generation === '' || generation === now.generation))
        throw fail('cancelled', `somebody took the drain of ${id} back`);
      if (found === undefined) await view.drains.request(request).catch(() => false);
      else last = found;
      generation = now.generation;
      if (last.state === 'done') break;
      most = Math.max(most, last.keeps);
      progress.update(`${id}: ${describe(last, view.snapshot())}`, most === 0 ? null : 1 - last.keeps / most);
    }
    await systemClock.sleep(LOOK_MS);
  }
  return last;
}

/** Null while Redis is away: the request is there, or will be put back. */
async function look(drains: DrainStore): Promise<Awaited<ReturnType<DrainStore['read']>> | null> {
  try {
    return await drains.read();
  } catch (err) {
    if (isGuildhallError(err) && err.code === 'redis_unavailable') return null;
    throw err;
  }
}

function describe({ state, keeps, why }: DrainRequest, { members, stale }: ClusterSnapshot): string {
  if (stale) return 'Redis is away';
  if (!members.some((one) => one.kind === control.MemberKind.MEMBER_KIND_CONTROLLER)) return 'no controller is running';
  const experts = keeps > 0 ? `${keeps} experts to go; ` : '';
  return state === 'asked' ? 'the controller has not seen it yet' : `${experts}${why}`;
}

function notDone(id: string, last: DrainRequest, seconds: number, snapshot: ClusterSnapshot): Error {
  const stays = `The request stays; \`guildhall drain ${id} --undo\` takes it back.`;
  if (last.state === 'kept')
    return fail(
      'deadline_exceeded',
      `${id} still holds ${last.keeps} experts after ${seconds} s: ${last.why}. ${stays}`,
    );
  return fail('deadline_exceeded', `${id} is not drained after ${seconds} s: ${describe(last, snapshot)}. ${stays}`);
}
