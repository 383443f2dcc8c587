import { engineSuite } from './engine/suite.ts';
import { kernelsSuite } from './kernels/suite.ts';
import type { Suite } from './suite.ts';

/** Every suite of the harness, in the order of the usage text. */
export const SUITES: readonly Suite[] = [kernelsSuite, engineSuite];
