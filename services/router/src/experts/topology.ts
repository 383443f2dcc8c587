import type { ChannelCredentials, Metadata } from '@grpc/grpc-js';
import { type Clock, errorMessage, type Logger } from '@guildhall/common';
import type { ReplyHeader } from '@guildhall/native';
import { control, type experts } from '@guildhall/proto';
import { assignmentOf, type ExpertShape, holdingsOf } from './holdings.ts';
import type { RouterIdentity } from './lane-stream.ts';
import { LinkSet } from './links.ts';
import { ExpertViews } from './placement-view.ts';
import type { WorkerLink } from './worker-link.ts';

export interface TopologyOptions {
  identity: RouterIdentity;
  credentials: ChannelCredentials;
  metadata: Metadata;
  clock: Clock;
  logger: Logger;
  parseReplyHeader: (frame: Uint8Array) => ReplyHeader;
  /** A reply that nobody waits for came from a worker. */
  onStray: (worker: string) => void;
  /** A worker is gone, or is another process from now on. */
  onGone?: (worker: string) => void;
}

/** Links to workers and the view made from them: what Redis and the workers say flows in here. */
export class ExpertTopology {
  readonly links: LinkSet;
  readonly views: ExpertViews<WorkerLink>;
  readonly #o: TopologyOptions;
  readonly #shape: ExpertShape;
  readonly #foreign = new Set<string>();
  #closed = false;

  constructor(options: TopologyOptions) {
    const { identity, clock } = options;
    this.#o = options;
    this.#shape = { numLayers: identity.numLayers, numExperts: identity.numExperts };
    const context = {
      ...options,
      onState: () => this.#onLinkState(),
      onHeld: (link: WorkerLink, held: experts.Held) => this.views.setHeld(link, holdingsOf(held.layers, this.#shape)),
      onStray: (link: WorkerLink) => options.onStray(link.id),
    };
    this.links = new LinkSet(context, (link) => options.onGone?.(link.id));
    this.views = new ExpertViews({ shape: this.#shape, clock, workers: () => this.links.all() });
  }

  /** Takes the members of the cluster; workers of another checkpoint or numerics class are left alone. */
  setMembers(members: readonly { kind: string; value: Uint8Array }[]): void {
    const workers = members.flatMap((member) => {
      if (member.kind !== 'expert') return [];
      const worker = this.#decode(member.value);
      return worker === null || this.#isForeign(worker) ? [] : [worker];
    });
    this.links.sync(workers);
    for (const worker of workers) {
      const link = this.links.get(worker.id);
      // Until the worker says itself, over its stream, what it holds.
      if (link !== null && !this.views.knows(link)) this.views.setHeld(link, holdingsOf(worker.holdings, this.#shape));
    }
  }

  /** Takes a placement; one that is for another model or does not fit together is logged and passed over. */
  setPlacement(bytes: Uint8Array): void {
    const { identity, logger } = this.#o;
    try {
      const placement = control.Placement.decode(bytes);
      const { epoch, modelFingerprint, numericsId } = placement;
      if (modelFingerprint !== identity.modelFingerprint || numericsId !== identity.numericsId) {
        logger.warn({ epoch, modelFingerprint, numericsId }, 'the placement is for another model or numerics class');
        return;
      }
      this.views.setPlacement(assignmentOf(placement, this.#shape));
    } catch (err) {
      logger.error({ reason: errorMessage(err) }, 'the placement cannot be used');
    }
  }

  /** Why not every expert can be computed, or null. */
  notCovered(): string | null {
    const { missing, total, firstMissing } = this.views.latest;
    if (firstMissing === null) return null;
    const problems = this.links.all().flatMap((link) => (link.ready ? [] : [`${link.id}: ${link.problem}`]));
    const first = `layer ${firstMissing.layer} expert ${firstMissing.expert}`;
    const text = `${missing} of ${total} experts have no live worker, the first is ${first}`;
    return problems.length === 0 ? text : `${text}; ${problems.join('; ')}`;
  }

  close(): void {
    this.#closed = true;
    this.views.stop();
    this.links.close();
  }

  #onLinkState(): void {
    if (!this.#closed) this.views.rebuild();
  }

  #decode(value: Uint8Array): control.Member | null {
    try {
      return control.Member.decode(value);
    } catch (err) {
      this.#o.logger.error({ reason: errorMessage(err) }, 'a member entry cannot be read');
      return null;
    }
  }

  #isForeign(worker: control.Member): boolean {
    const { identity, logger } = this.#o;
    const { id, incarnation, modelFingerprint, numericsId } = worker;
    if (modelFingerprint === identity.modelFingerprint && numericsId === identity.numericsId) return false;
    const key = `${id}/${incarnation}`;
    if (!this.#foreign.has(key)) {
      this.#foreign.add(key);
      const ours = { modelFingerprint: identity.modelFingerprint, numericsId: identity.numericsId };
      logger.warn(
        { worker: id, theirs: { modelFingerprint, numericsId }, ours },
        'worker of another model or numerics class',
      );
    }
    return true;
  }
}
