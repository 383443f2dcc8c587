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
import type { Shard } from './shard.ts';

export interface PlacementWatchOptions {
  id: string;
  fingerprint: string;
  numericsId: string;
  placements: PlacementView;
  members: MemberView;
  shard: Shard;
  clock: Clock;
  logger: Logger;
  /** Called after `acked` has changed. */
  onAck: (epoch: number) => void;
}

const RETRY_MS = 5000;

/**
 * Follows the placement: loads what the newest epoch gives this worker, acknowledges the epoch when it holds all of
 * it, and drops the rest once every live router of the model has acknowledged the epoch as well. While the list of
 * members is stale nothing is dropped.
 */
export class PlacementWatch {
  readonly #options: PlacementWatchOptions;
  readonly #abort = new AbortController();
  readonly #unsubscribe: (() => void)[] = [];
  #assignment: Assignment | null = null;
  #acked = 0;
  #loading: Promise<void> | null = null;

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

  start(): void {
    const { placements, members } = this.#options;
    this.#unsubscribe.push(placements.onChange((placement) => this.#take(placement)));
    this.#unsubscribe.push(members.onChange(() => this.#dropUnused()));
    const current = placements.current();
    if (current !== null) this.#take(current);
  }

  async stop(): Promise<void> {
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
    this.#abort.abort();
    await this.#loading;
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
    this.#loading ??= this.#loadAll().finally(() => (this.#loading = null));
  }

  /** Loads until the newest assignment is held. */
  async #loadAll(): Promise<void> {
    while (!this.#abort.signal.aborted) {
      const assignment = this.#assignment;
      if (assignment === null || assignment.epoch === this.#acked) return;
      if (await this.#loadMissing(assignment)) await this.#acknowledge(assignment.epoch);
    }
  }

  /** False when it was interrupted by a newer assignment, a failure or the end. */
  async #loadMissing(assignment: Assignment): Promise<boolean> {
    const { shard, clock, logger } = this.#options;
    for (const [layer, experts] of assignment.experts) {
      for (const expert of experts) {
        if (shard.has(layer, expert)) continue;
        if (this.#abort.signal.aborted || this.#assignment !== assignment) return false;
        if (await shard.load(layer, expert)) continue;
        logger.warn({ retryMs: RETRY_MS }, 'loading goes on later');
        await clock.sleep(RETRY_MS, this.#abort.signal).catch(() => undefined);
        return false;
      }
    }
    return this.#assignment === assignment;
  }

  async #acknowledge(epoch: number): Promise<void> {
    this.#acked = epoch;
    this.#options.logger.info({ epoch, held: this.#options.shard.heldCount }, 'placement held');
    this.#options.onAck(epoch);
    this.#dropUnused();
    await this.#options.shard.loaded();
  }

  #dropUnused(): void {
    const { members, shard, fingerprint, logger } = this.#options;
    const assignment = this.#assignment;
    if (assignment === null || assignment.epoch !== this.#acked || members.stale) return;
    for (const member of members.members()) {
      if (member.kind !== 'router') continue;
      const router = decodeMember(member.value);
      if (router === null || (router.modelFingerprint === fingerprint && Number(router.ackedEpoch) < assignment.epoch))
        return;
    }
    const dropped = shard.dropAllBut(assignment.experts);
    if (dropped > 0) logger.info({ epoch: assignment.epoch, dropped }, 'experts dropped');
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
