import type { Fault } from '../fault.ts';
import { ANSWER_FAULTS } from './answers.ts';
import { CLOCK_FAULTS } from './clocks.ts';
import { CONTROL_FAULTS } from './control.ts';
import { LINK_FAULTS } from './links.ts';
import { REDIS_FAULTS } from './redis.ts';
import { WORKER_FAULTS } from './workers.ts';

/** Every fault, in the order of the report. */
export const FAULTS: readonly Fault[] = [
  ...WORKER_FAULTS,
  ...LINK_FAULTS,
  ...ANSWER_FAULTS,
  ...REDIS_FAULTS,
  ...CONTROL_FAULTS,
  ...CLOCK_FAULTS,
];
