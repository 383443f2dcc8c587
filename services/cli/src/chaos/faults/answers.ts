import type { Fault } from '../fault.ts';
import { garbage, lateReplies, wrongShapes } from '../misbehaviour.ts';
import type { Misbehaviour } from '../worker-front.ts';
import { behindFront, withoutFront } from './fronts.ts';

const VICTIM = 'expert-4';

function rogue(name: string, about: string, expected: string, make: () => Misbehaviour): Fault {
  return {
    name,
    about: `${about}, for a while`,
    expected,
    lasting: true,
    lost: [],
    prepare: async (lab) => await behindFront(lab, VICTIM),
    strike: async (lab) => lab.frontOf(VICTIM).misbehave(make()),
    felt: (lab) => lab.frontOf(VICTIM).changed > 0,
    heal: async (lab) => lab.frontOf(VICTIM).misbehave(null),
    cleanUp: async (lab) => await withoutFront(lab, VICTIM),
  };
}

/** Faults of what a worker answers. */
export const ANSWER_FAULTS: Fault[] = [
  rogue(
    'garbage',
    'every second reply of a worker is random bytes',
    'the reply is refused and its rows go to the replicas; the worker is left alone for a while',
    () => garbage(2),
  ),
  rogue(
    'wrong-shapes',
    'every second reply of a worker has rows too few, too many or too short, or says so',
    'the reply is refused and its rows go to the replicas; the worker is left alone for a while',
    () => wrongShapes(2),
  ),
  rogue(
    'late-replies',
    'replies of a worker come again with other numbers; every second one says busy first and comes under the old attempt',
    'whatever answers no attempt that is waited for is dropped',
    () => lateReplies(2, 30),
  ),
];
