import { type DrainRequest, type DrainState, type DrainStore, errorMessage, type Logger } from '@guildhall/common';
import type { Emit } from '../../events.ts';
import { sharesOf } from '../../placement-shares.ts';
import type { PlacementRecord } from '../../store/placement-store.ts';
import type { LiveWorkers } from '../workers/controller.ts';

export interface DrainsDeps {
  drains: Pick<DrainStore, 'read' | 'request' | 'mark'>;
  logger: Logger;
  emit: Emit;
}

/** A worker that is drained, and how far that is. */
export interface Drain {
  worker: string;
  /** Who asked; null for a worker that drains because it was told to end. */
  by: string | null;
  state: DrainState;
  /** Experts that it still has to hold. */
  keeps: number;
  /** What is waited for, or why it keeps something; for people. */
  why: string;
}

/** What the supervision of drains looks at. */
export interface DrainFacts {
  live: LiveWorkers;
  placement: PlacementRecord | null;
  /** Ids of draining workers that the placement takes into account. */
  planned: ReadonlySet<string>;
}

type Progress = Pick<Drain, 'state' | 'keeps' | 'why'>;

const PREFIX = 'expert/';

/**
 * Supervises the draining of workers: those that somebody asked for in Redis, and those of workers that were told to end.
 * A request stays until it is taken back, so that a drained worker that is started again gets nothing. Requests that Redis
 * lost are put back.
 */
export class DrainsController {
  readonly #deps: DrainsDeps;
  #generation = '';
  #requests = new Map<string, DrainRequest>();
  /** Drains of workers that were told to end, by id and incarnation. */
  #ending = new Map<string, Progress>();

  constructor(deps: DrainsDeps) {
    this.#deps = deps;
  }

  /** What is asked for, as read last, with what was noted since. */
  get requests(): ReadonlyMap<string, DrainRequest> {
    return this.#requests;
  }

  /** Ids of workers to drain; while Redis is away, those of before. */
  async refresh(live: LiveWorkers, leading: boolean): Promise<ReadonlySet<string>> {
    try {
      const { generation, requests } = await this.#deps.drains.read();
      const lost = this.#generation !== '' && this.#generation !== generation;
      if (lost && leading) await this.#putBack(requests);
      if (!lost) this.#noteCancelled(requests);
      if (!lost || leading) {
        this.#generation = generation;
        this.#requests = requests;
      }
    } catch (err) {
      this.#deps.logger.debug({ reason: errorMessage(err) }, 'the drains cannot be read');
    }
    const asked = [...this.#requests.keys()].flatMap((tag) =>
      tag.startsWith(PREFIX) ? [tag.slice(PREFIX.length)] : [],
    );
    return new Set([...asked, ...live.workers.filter((worker) => worker.draining).map((worker) => worker.id)]);
  }

  /** How far each drain is; the leader notes it in Redis and in the event log. */
  async supervise(facts: DrainFacts, leading: boolean): Promise<Drain[]> {
    const drains: Drain[] = [];
    for (const [tag, request] of this.#requests) {
      if (!tag.startsWith(PREFIX)) continue;
      const worker = tag.slice(PREFIX.length);
      const drain = { worker, by: request.by, ...judge(worker, facts, request) };
      drains.push(drain);
      if (leading) await this.#note(request, drain);
    }
    const asked = new Set(drains.map((drain) => drain.worker));
    const ending = new Map<string, Progress>();
    for (const { id, incarnation, draining } of facts.live.workers) {
      if (!draining || asked.has(id)) continue;
      const key = `${id}/${incarnation}`;
      const before = this.#ending.get(key) ?? { state: 'asked', keeps: 0, why: '' };
      const drain = { worker: id, by: null, ...judge(id, facts, before) };
      drains.push(drain);
      ending.set(key, drain);
      this.#announce(before.state, drain);
    }
    this.#ending = ending;
    return drains.sort((a, b) => (a.worker < b.worker ? -1 : 1));
  }

  async #putBack(present: Map<string, DrainRequest>): Promise<void> {
    for (const [tag, request] of this.#requests) {
      if (present.has(tag)) continue;
      await this.#deps.drains.request(request);
      present.set(tag, request);
      this.#deps.logger.info({ event: 'drain_put_back', tag }, 'Redis lost a request to drain; it is put back');
    }
  }

  #noteCancelled(now: ReadonlyMap<string, DrainRequest>): void {
    for (const [tag, { state }] of this.#requests) {
      if (now.has(tag) || !tag.startsWith(PREFIX)) continue;
      const worker = tag.slice(PREFIX.length);
      this.#deps.emit('drain_cancelled', `${worker} is no longer asked to drain`, { worker, state });
    }
  }

  async #note(request: DrainRequest, drain: Drain): Promise<void> {
    const { state, keeps, why } = drain;
    if (request.state === state && request.keeps === keeps && request.why === why) return;
    try {
      // Somebody else's mark, or a withdrawal, is seen at the next look.
      if (!(await this.#deps.drains.mark(request, { state, keeps, why }))) return;
    } catch (err) {
      this.#deps.logger.debug({ reason: errorMessage(err) }, 'a drain could not be noted');
      return;
    }
    this.#requests.set(request.tag, { ...request, state, keeps, why });
    this.#announce(request.state, drain);
  }

  #announce(before: DrainState, { worker, by, state, keeps, why }: Drain): void {
    if (before === state) return;
    const { emit } = this.#deps;
    const details = { worker, by, keeps };
    if (before === 'asked')
      emit(
        'drain_started',
        by === null ? `${worker} was told to end and drains` : `${by} asked ${worker} to drain`,
        details,
      );
    if (state === 'done') emit('drain_done', `nobody needs ${worker} any more`, details);
    if (state === 'kept') emit('placement_short', `${worker} keeps ${keeps} experts though it drains: ${why}`, details);
  }
}

/** How far the drain of a worker is; `before` stays while no placement has taken it into account. */
function judge(worker: string, { live, placement, planned }: DrainFacts, before: Progress): Progress {
  // Redis may have lost it: routers go on with what they know, so nothing is over.
  if (placement === null)
    return before.state === 'asked' ? { ...before, state: 'moving', why: 'no placement is known' } : before;
  const info = live.workers.find((one) => one.id === worker);
  const keeps = info === undefined ? 0 : (sharesOf([info], placement).get(worker)?.given ?? 0);
  if (keeps > 0 && !planned.has(worker)) {
    const { state, why } = before;
    return state === 'kept'
      ? { state, keeps, why }
      : { state: 'moving', keeps, why: 'a placement without it is to be made' };
  }
  if (keeps > 0) return { state: 'kept', keeps, why: `the other workers have no room for ${keeps} experts` };
  const { epoch } = placement;
  const behind = live.routers.filter((router) => router.ackedEpoch < epoch).map((router) => router.id);
  if (info === undefined || behind.length === 0) return { state: 'done', keeps: 0, why: '' };
  const slow = live.workers.filter((one) => one.id !== worker && one.ackedEpoch < epoch && !one.draining);
  const first = slow.length > 0 ? `${slow.map((one) => one.id).join(', ')} must load epoch ${epoch} first; ` : '';
  return { state: 'moving', keeps: 0, why: `${first}${behind.join(', ')} must take up epoch ${epoch}` };
}
