import { z } from 'zod';

const us = z.number().min(0).max(1e6);

/**
 * What the programs around the arithmetic cost, as times of one core in µs: event loops, messages, native calls. They do
 * not depend on the accelerator.
 */
export const hostCostsSchema = z.strictObject({
  usPerLayer: us.describe('Router, for one layer of a micro-batch: native calls, planning.'),
  usPerRow: us.describe('Router, for each row of it.'),
  usPerCall: us.describe('Router, for a request and its reply.'),
  usPerKib: us.describe('Router, for each KiB of both.'),
  workerUsPerMessage: us.describe('Worker, for a message.'),
  workerUsPerEntry: us.describe('Worker, for each (row, expert) pair of it besides arithmetic.'),
  workerUsPerKib: us.describe('Worker, for each KiB of request and reply.'),
  latencyUs: us.describe('One way between two processes, besides what either computes and the wire.'),
  usPerToken: us.describe('Sampling and the way to the client, for each token.'),
});

export type HostCosts = z.output<typeof hostCostsSchema>;

/** Copies to and from a card and launches, for a call that computes there; assumed. µs. */
export const CARD_CALL_US = 40;

/** One wire between two machines, one way; assumed. µs. */
export const WIRE_US = 50;

/**
 * Of an otherwise idle machine with Zen 5 cores. A layer's dispatch to two workers takes 218, 509 and 2,601 µs with 8, 64 and
 * 512 KiB each way (bench/results/*-dispatch.md), which these say as 228, 420 and 1,750; of it some 50 µs are JavaScript in
 * the router and 40 µs a worker's part (docs/bench.md); a call of grpc-js costs the router's loop 24 µs. Slower cores that all
 * processes share cost three to four times that (docs/planning.md): `guildhall plan --measure` says what a machine costs.
 */
export const MEASURED_HOST: HostCosts = {
  usPerLayer: 60,
  usPerRow: 2,
  usPerCall: 24,
  usPerKib: 0.5,
  workerUsPerMessage: 40,
  workerUsPerEntry: 1,
  workerUsPerKib: 0.5,
  latencyUs: 40,
  usPerToken: 100,
};

/** Resident memory of a router and of a worker besides what the native library accounts for; bytes. */
export const ROUTER_BASE_BYTES = 160 * 2 ** 20;
export const EXPERT_BASE_BYTES = 120 * 2 ** 20;
