/**
 * What the programs around the arithmetic cost, as times of one core: event loops, messages, native calls. They do not
 * depend on the accelerator.
 */
export interface HostCosts {
  /** Router, for one layer of a micro-batch: native calls, planning. µs. */
  usPerLayer: number;
  /** Router, for each row of it. µs. */
  usPerRow: number;
  /** Router, for a request and its reply, and for each KiB of both. µs. */
  usPerCall: number;
  usPerKib: number;
  /** Worker, for a message, for each (row, expert) pair of it, and for each KiB. µs. */
  workerUsPerMessage: number;
  workerUsPerEntry: number;
  workerUsPerKib: number;
  /** One way between two processes, besides what either computes. µs. */
  latencyUs: number;
  /** Router, gateway and client, for each token. µs. */
  usPerToken: number;
}

/** Copies to and from a card and launches, for a call that computes there; assumed. µs. */
export const CARD_CALL_US = 40;

/** One wire between two machines, one way; assumed. µs. */
export const WIRE_US = 50;

/** Placeholder until measured. */
export const MEASURED_HOST: HostCosts = {
  usPerLayer: 300,
  usPerRow: 20,
  usPerCall: 100,
  usPerKib: 0.28,
  workerUsPerMessage: 150,
  workerUsPerEntry: 20,
  workerUsPerKib: 0.28,
  latencyUs: 20,
  usPerToken: 100,
};

/** Resident memory of a router and of a worker besides what the native library accounts for; bytes. */
export const ROUTER_BASE_BYTES = 200 * 2 ** 20;
export const EXPERT_BASE_BYTES = 150 * 2 ** 20;
