import {
  type Clock,
  errorMessage,
  type Logger,
  type MemberView,
  type PlacementView,
  type StoredPlacement,
} from '@guildhall/common';
import { control } from '@guildhall/proto';
import { type Assignment, readAssignment } from './placement.ts';
import type { LoadResult, Shard } from './shard.ts';

export interface PlacementWatchOptions {
  id: string;
  fingerprint: string;
  numericsId: string;
  placements: Pick<PlacementView, 'current' | 'onChange'>;
  members: Pick<MemberView, 'members' | 'stale' | 'onChange'>;
  shard: Pick<Shard, 'has' | 'heldCount' | 'load' | 'loaded' | 'dropAllBut' | 'makeRoom' | 'lowerCapacity'>;
  /** Whether another live worker holds an expert. */
  covered: (layer: number, expert: number) => boolean;
  clock: Clock;
  logger: Logger;
  /** Called after `acked` has changed. */
  onAck: (epoch: number) => void;
}

const FIRST_RETRY_MS = 500;
const LONGEST_RETRY_MS = 5000;
/** While an assignment is loaded, what others hold is looked at so often. */
const REORDER_MS = 1000;

interface Wanted {
  layer: number;
  expert: number;
  /** No other live worker holds it. */
  urgent: boolean;
}

/** How a pass over the missing experts ended; `again` after a newer assignment or a while. */
type Pass = 'held' | 'again' | 'failed';

/**
 * Follows the placement: loads what the newest epoch gives this worker, first what nobody else holds, acknowledges the
 * epoch when it holds all of it, and drops the rest once every live router of the model has acknowledged the epoch as
 * well. While the list of members is stale nothing is dropped.
 */
export class PlacementWatch {
  readonly #options: PlacementWatchOptions;
  readonly #abort = new AbortController();
  readonly #unsubscribe: (() => void)[] = [];
  #assignment: Assignment | null = null;
  #acked = 0;
  #running: Promise<void> | null = null;
  /** Ends the wait for a newer assignment, or for the next try. */
  #wake: AbortController = new AbortController();

  constructor(options: PlacementWatchOptions) {
    this.#options = options;
  }

  /** The last epoch whose experts are all held. */
  get acked(): number {
    return this.#acked;
  }

  /** The newest epoch that concerns this model, 0 for none. */
  get epoch(): number {
    return this.#assignment?.epoch ?? 0;
  }

  /** Experts of the newest epoch that are not held yet. */
  get pending(): number {
    return this.#assignment === null ? 0 : this.#missing(this.#assignment).length;
  }

  start(): void {
    const { placements, members } = this.#options;
    this.#unsubscribe.push(placements.onChange((placement) => this.#take(placement)));
    this.#unsubscribe.push(members.onChange(() => this.#dropUnused()));
    const current = placements.current();
    if (current !== null) this.#take(current);
    this.#running = this.#follow();
  }

  async stop(): Promise<void> {
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
    this.#abort.abort();
    this.#wake.abort();
    await this.#running;
  }

  /** Experts that the newest placement gives this worker. */
  get wanted(): number {
    return this.#assignment === null ? 0 : countOf(this.#assignment);
  }

  #take(placement: StoredPlacement): void {
    const { id, fingerprint, numericsId, logger } = this.#options;
    let assignment: Assignment;
    try {
      assignment = readAssignment(placement.bytes, id);
    } catch (err) {
      logger.error({ epoch: placement.epoch, reason: errorMessage(err) }, 'a placement was ignored');
      return;
    }
    if (assignment.fingerprint !== fingerprint || assignment.numericsId !== numericsId) {
      logger.warn(
        { epoch: placement.epoch, fingerprint: assignment.fingerprint, numericsId: assignment.numericsId },
        'the placement is of another model or numerics class',
      );
      return;
    }
    this.#assignment = { ...assignment, epoch: placement.epoch };
    logger.info({ epoch: placement.epoch, experts: countOf(assignment) }, 'placement received');
    this.#wake.abort();
  }

  /** Loads each assignment until it is held, and waits for the next. */
  async #follow(): Promise<void> {
    let retryMs = FIRST_RETRY_MS;
    while (!this.#abort.signal.aborted) {
      this.#wake = new AbortController();
      const assignment = this.#assignment;
      const held = this.#options.shard.heldCount;
      const pass = assignment === null || assignment.epoch === this.#acked ? null : await this.#load(assignment);
      if (pass === 'held' && assignment !== null) await this.#acknowledge(assignment.epoch);
      if (pass === 'held' || pass === 'again') continue;
      if (this.#options.shard.heldCount > held) retryMs = FIRST_RETRY_MS;
      if (pass === 'failed') this.#options.logger.warn({ retryMs }, 'loading goes on later');
      await this.#idle(pass === 'failed' ? retryMs : Infinity);
      retryMs = pass === 'failed' ? Math.min(retryMs * 2, LONGEST_RETRY_MS) : FIRST_RETRY_MS;
    }
  }

  /** Waits for so long, or for a newer assignment. */
  async #idle(ms: number): Promise<void> {
    const { signal } = this.#wake;
    if (this.#abort.signal.aborted || signal.aborted) return;
    if (ms !== Infinity) return this.#options.clock.sleep(ms, signal).catch(() => undefined);
    await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
  }

  /** What is missing of an assignment; what nobody else holds comes first. */
  #missing(assignment: Assignment): Wanted[] {
    const { shard, covered } = this.#options;
    const missing: Wanted[] = [];
    for (const [layer, experts] of assignment.experts) {
      for (const expert of experts) {
        if (!shard.has(layer, expert)) missing.push({ layer, expert, urgent: !covered(layer, expert) });
      }
    }
    return missing.sort((a, b) => Number(b.urgent) - Number(a.urgent));
  }

  async #load(assignment: Assignment): Promise<Pass> {
    const { clock } = this.#options;
    const failed = new Set<string>();
    let missing = this.#missing(assignment);
    let orderedMs = clock.monotonicMs();
    for (let next = missing.shift(); next !== undefined; next = missing.shift()) {
      if (this.#assignment !== assignment || this.#abort.signal.aborted) return 'again';
      const { layer, expert, urgent } = next;
      const result = await this.#loadOne(assignment, next);
      if (result === 'cancelled') return 'again';
      if (result === 'no_memory') return 'failed';
      if (result === 'failed') failed.add(`${layer}/${expert}/${urgent}`);
      if (clock.monotonicMs() - orderedMs < REORDER_MS) continue;
      // Others may have come or gone: what was not urgent may be now.
      missing = this.#missing(assignment).filter((one) => !failed.has(`${one.layer}/${one.expert}/${one.urgent}`));
      orderedMs = clock.monotonicMs();
    }
    if (this.#assignment !== assignment) return 'again';
    return this.#missing(assignment).length === 0 ? 'held' : 'failed';
  }

  async #loadOne(assignment: Assignment, { layer, expert, urgent }: Wanted): Promise<LoadResult> {
    const { shard } = this.#options;
    const signal = this.#abort.signal;
    let result = await shard.load(layer, expert, { urgent, signal });
    while (result === 'no_memory' && this.#makeRoom(assignment)) {
      result = await shard.load(layer, expert, { urgent, signal });
    }
    if (result === 'no_memory') shard.lowerCapacity();
    return result;
  }

  /**
   * Drops a leftover before everybody has left it: one that others hold, since routers that still ask for it go to them, or
   * any where there is no router.
   */
  #makeRoom(assignment: Assignment): boolean {
    const { shard, members, covered } = this.#options;
    if (members.stale) return false;
    const alone = this.#routerEpochs().length === 0;
    return shard.makeRoom(assignment.experts, alone ? () => true : covered);
  }

  async #acknowledge(epoch: number): Promise<void> {
    this.#acked = epoch;
    this.#options.logger.info({ epoch, held: this.#options.shard.heldCount }, 'placement held');
    this.#options.onAck(epoch);
    this.#dropUnused();
    await this.#options.shard.loaded();
  }

  #dropUnused(): void {
    const { members, shard, logger } = this.#options;
    const assignment = this.#assignment;
    if (assignment === null || assignment.epoch !== this.#acked || members.stale) return;
    if (this.#routerEpochs().some((epoch) => epoch < assignment.epoch)) return;
    const dropped = shard.dropAllBut(assignment.experts);
    if (dropped > 0) logger.info({ epoch: assignment.epoch, dropped }, 'experts dropped');
  }

  /** Epochs that the live routers of the model plan with; 0 for one that has none yet or cannot be read. */
  #routerEpochs(): number[] {
    const { members, fingerprint } = this.#options;
    return members
      .members()
      .filter(({ kind }) => kind === 'router')
      .map(({ value }) => decodeMember(value))
      .filter((router) => router === null || router.modelFingerprint === fingerprint)
      .map((router) => Number(router?.ackedEpoch ?? 0));
  }
}

function countOf(assignment: Assignment): number {
  return [...assignment.experts.values()].reduce((sum, experts) => sum + experts.size, 0);
}

function decodeMember(bytes: Uint8Array): control.Member | null {
  try {
    return control.Member.decode(bytes);
  } catch {
    return null;
  }
}
