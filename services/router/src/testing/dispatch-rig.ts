import assert from 'node:assert/strict';
import { channelCredentials, authMetadata, type Clock, systemClock } from '@guildhall/common';
import { eventually, silentLogger } from '@guildhall/common/testing';
import { control, experts } from '@guildhall/proto';
import { FakeExpert, type FakeExpertOptions, fakeExpertRow } from '../../../../test/fakes/fake-expert.ts';
import { Calls } from '../experts/calls.ts';
import {
  type DispatchContext,
  RemoteExperts,
  type RemoteExpertsOptions,
  type StepDispatch,
} from '../experts/dispatch.ts';
import { ExpertLoads } from '../experts/expert-loads.ts';
import type { RouterIdentity } from '../experts/lane-stream.ts';
import { DispatchPolicy, type DispatchPolicyOptions } from '../experts/policy/index.ts';
import { ExpertTopology } from '../experts/topology.ts';
import { type ReferenceBuffers, referenceReplyHeader } from './reference-buffers.ts';

export const RIG_SHAPE = { hidden: 8, numLayers: 2, numExperts: 8, topK: 3 };

const SECURITY = { clusterToken: null, tlsCert: null, tlsKey: null, tlsCa: null };

export interface RigOptions {
  workers: FakeExpertOptions[];
  remote?: Partial<RemoteExpertsOptions>;
  identity?: Partial<RouterIdentity>;
  clock?: Clock;
  policy?: Partial<DispatchPolicyOptions>;
  replyLimitMs?: number;
}

/** A router's dispatch side against fake workers over real gRPC. */
export class DispatchRig {
  readonly workers: FakeExpert[] = [];
  readonly topology: ExpertTopology;
  readonly remote: RemoteExperts;
  readonly loads = new ExpertLoads(RIG_SHAPE);
  readonly retries: string[] = [];
  readonly strays: string[] = [];
  readonly hedges: string[] = [];
  /** Workers that answered too late. */
  readonly late: string[] = [];
  readonly failovers: number[] = [];
  /** Changes of breakers. */
  readonly breakers: string[] = [];
  readonly policy: DispatchPolicy;
  readonly calls: Calls;
  readonly identity: RouterIdentity;
  #step = 0;

  constructor(options: RigOptions) {
    const clock = options.clock ?? systemClock;
    this.identity = {
      routerId: 'router-1',
      incarnation: 77n,
      modelFingerprint: 'fingerprint',
      numericsId: 'f32-fma-v1/f32/act-f32/row-f32/kv-f32/exact',
      rowFormat: experts.RowFormat.ROW_FORMAT_F32,
      combineMode: experts.CombineMode.COMBINE_MODE_EXACT,
      maxMessageBytes: 1 << 18,
      hiddenSize: RIG_SHAPE.hidden,
      numLayers: RIG_SHAPE.numLayers,
      numExperts: RIG_SHAPE.numExperts,
      leastMessageBytes: 1024,
      ...options.identity,
    };
    this.topology = new ExpertTopology({
      identity: this.identity,
      credentials: channelCredentials(SECURITY),
      metadata: authMetadata(SECURITY),
      clock,
      logger: silentLogger(),
      parseReplyHeader: referenceReplyHeader,
      onStray: (worker) => void this.strays.push(worker),
      onGone: (worker) => this.policy.forget(worker),
    });
    const limitMs = options.replyLimitMs ?? 20_000;
    const limits = { decode: limitMs, prefill: limitMs };
    this.policy = new DispatchPolicy({
      clock,
      seed: 1,
      limitMs: limits,
      hedgeShare: 0.03,
      onBreaker: (worker, state, outcome) => void this.breakers.push(`${worker} ${state} ${outcome}`),
      ...options.policy,
    });
    this.calls = new Calls({ policy: this.policy, clock, logger: silentLogger(), replyLimitMs: limits });
    this.remote = new RemoteExperts({
      views: this.topology.views,
      clock,
      logger: silentLogger(),
      loads: this.loads,
      observer: {
        message: () => undefined,
        bytes: () => undefined,
        retry: (reason) => void this.retries.push(reason),
        rows: () => undefined,
        layer: () => undefined,
        hedge: (outcome) => void this.hedges.push(outcome),
        late: (worker) => void this.late.push(worker),
        spread: () => undefined,
        failover: (ms) => void this.failovers.push(ms),
      },
      incarnation: this.identity.incarnation,
      topK: RIG_SHAPE.topK,
      rowBytes: RIG_SHAPE.hidden * 4,
      combineMode: 'exact',
      policy: this.policy,
      calls: this.calls,
      fallback: null,
      expertWaitMs: 20_000,
      ...options.remote,
    });
  }

  /** Starts the workers, connects to them, runs `body` and ends everything. */
  static async run(options: RigOptions, body: (rig: DispatchRig) => Promise<void>): Promise<void> {
    const rig = new DispatchRig(options);
    try {
      for (const [i, worker] of options.workers.entries()) {
        rig.workers.push(await FakeExpert.start({ id: `fake-${i + 1}`, ...worker }));
      }
      rig.announce();
      await body(rig);
    } finally {
      rig.topology.close();
      rig.calls.close();
      for (const worker of rig.workers) worker.die();
    }
  }

  /** A worker that died, under its id, as another process. */
  async restart(id: string, options: FakeExpertOptions = {}): Promise<FakeExpert> {
    const again = await FakeExpert.start({ ...options, id });
    this.workers.push(again);
    return again;
  }

  /** Lists the fake workers (or some of them) as the members of the cluster. */
  announce(workers: readonly FakeExpert[] = this.workers): void {
    const members = workers.map(({ id, incarnation, address }) => ({
      kind: 'expert',
      value: control.Member.encode(
        control.Member.fromPartial({
          id,
          incarnation,
          address,
          modelFingerprint: this.identity.modelFingerprint,
          numericsId: this.identity.numericsId,
        }),
      ).finish(),
    }));
    this.topology.setMembers(members);
  }

  async covered(): Promise<void> {
    await eventually(() => this.topology.views.covered, 'every expert to have a worker');
  }

  /** Waits until the view counts on all the given workers for what they hold. */
  async using(...workers: FakeExpert[]): Promise<void> {
    await eventually(
      () => {
        const { views } = this.topology;
        return workers.every((worker) => {
          const index = views.latest.workers.findIndex(({ id }) => id === worker.id);
          return index >= 0 && views.latest.holders.list.includes(index);
        });
      },
      `the view to use ${workers.map(({ id }) => id).join(', ')}`,
    );
  }

  /** Begins a step of these buffers, one sequence per row. */
  begin(buffers: ReferenceBuffers, lane: 'decode' | 'prefill' = 'decode'): StepDispatch {
    const owner = Int32Array.from({ length: buffers.numTokens }, (_, row) => row);
    return this.remote.begin(this.topology.views.latest, lane, { owner, numSequences: buffers.numTokens });
  }

  context(given: Partial<DispatchContext> = {}): DispatchContext {
    this.#step += 1;
    return {
      step: this.#step,
      microBatch: 0,
      lane: 'decode',
      signal: null,
      deadlineMs: null,
      traceparent: null,
      ...given,
    };
  }

  /** Runs one layer and checks that every row that came back is the right one. */
  async layer(buffers: ReferenceBuffers, layer = 0, given: Partial<DispatchContext> = {}): Promise<StepDispatch> {
    const step = this.begin(buffers, given.lane ?? 'decode');
    try {
      await step.dispatch(layer, buffers, buffers.numTokens, this.context(given)).done;
    } finally {
      step.close();
    }
    checkRows(buffers, layer);
    return step;
  }
}

/** Every slot holds the row that its expert computes from its input, whatever way it came. */
export function checkRows(buffers: ReferenceBuffers, layer: number): void {
  for (const [slot, row] of buffers.slots.entries()) {
    const input = buffers.row(Math.floor(slot / buffers.topK));
    assert.deepEqual(row, fakeExpertRow(layer, buffers.topkIds[slot] ?? -1, input));
  }
}

/** Choices of K distinct experts for each row, by a fixed rule. */
export function choices(numRows: number, { numExperts, topK } = RIG_SHAPE): number[][] {
  return Array.from({ length: numRows }, (_, row) =>
    Array.from({ length: topK }, (_e, k) => (row * 5 + k * 3 + (row % 2) * k) % numExperts).map((e, k, all) =>
      all.indexOf(e) === k ? e : (Math.max(...all) + k + 1) % numExperts,
    ),
  );
}
