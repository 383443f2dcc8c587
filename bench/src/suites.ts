import { directorySuite } from './directory/suite.ts';
import { dispatchSuite } from './dispatch/suite.ts';
import { engineSuite } from './engine/suite.ts';
import { grammarSuite } from './grammar/suite.ts';
import { kernelsSuite } from './kernels/suite.ts';
import { loadingSuite } from './loading/suite.ts';
import { longcontextSuite } from './longcontext/suite.ts';
import { movesSuite } from './moves/suite.ts';
import { placementSuite } from './placement/suite.ts';
import { prefixSuite } from './prefix/suite.ts';
import { servingSuite } from './serving/suite.ts';
import type { Suite } from './suite.ts';
import { tracingSuite } from './tracing/suite.ts';

/** Every suite of the harness, in the order of the usage text. */
export const SUITES: readonly Suite[] = [
  kernelsSuite,
  engineSuite,
  dispatchSuite,
  servingSuite,
  directorySuite,
  prefixSuite,
  longcontextSuite,
  placementSuite,
  loadingSuite,
  movesSuite,
  tracingSuite,
  grammarSuite,
];
