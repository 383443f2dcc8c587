import type { Fault } from '../fault.ts';
import { WORKER_FAULTS } from './workers.ts';

/** Every fault, in the order of the report. */
export const FAULTS: readonly Fault[] = [...WORKER_FAULTS];
