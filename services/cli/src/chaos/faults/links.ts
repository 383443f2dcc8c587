import { clearImpairments, dropOneWay, droppedAt, limitRate, lose, partition } from '../../net/impairments.ts';
import type { Fault } from '../fault.ts';
import type { Lab } from '../lab.ts';
import { delayed } from '../misbehaviour.ts';
import { behindFront, withoutFront } from './fronts.ts';

const VICTIM = 'expert-3';

function cleared(lab: Lab): Promise<void> {
  for (const name of ['router-1', VICTIM]) clearImpairments(lab.network, lab.host(name));
  return Promise.resolve();
}

function dropped(lab: Lab, name: string): boolean {
  return droppedAt(lab.network, lab.host(name)) > 0;
}

/** Faults of the link between the router and one worker. */
export const LINK_FAULTS: Fault[] = [
  {
    name: 'partition',
    about: 'nothing passes between the router and a worker for a while; both reach Redis',
    expected: 'rows go to the replicas after the deadline of a call; the worker counts again when it is reached',
    lasting: true,
    lost: [],
    strike: async (lab) => partition(lab.network, lab.host('router-1'), lab.host(VICTIM)),
    felt: (lab) => dropped(lab, VICTIM),
    heal: cleared,
  },
  {
    name: 'partition-to-worker',
    about: 'nothing that the router sends reaches a worker for a while; the other way works',
    expected: 'as with a whole partition',
    lasting: true,
    lost: [],
    strike: async (lab) => dropOneWay(lab.network, lab.host('router-1'), lab.host(VICTIM)),
    felt: (lab) => dropped(lab, VICTIM),
    heal: cleared,
  },
  {
    name: 'partition-to-router',
    about: 'nothing that a worker sends reaches the router for a while; the other way works',
    expected: 'as with a whole partition: the worker computes, and nobody hears of it',
    lasting: true,
    lost: [],
    strike: async (lab) => dropOneWay(lab.network, lab.host(VICTIM), lab.host('router-1')),
    felt: (lab) => dropped(lab, 'router-1'),
    heal: cleared,
  },
  {
    name: 'latency',
    about: 'every reply of a worker comes 200 ms later, for a while',
    expected: 'rows go to the replicas, by hedges and by the choice between them',
    lasting: true,
    lost: [],
    prepare: async (lab) => await behindFront(lab, VICTIM),
    strike: async (lab) => lab.frontOf(VICTIM).misbehave(delayed(200)),
    felt: (lab) => lab.frontOf(VICTIM).changed > 0,
    heal: async (lab) => lab.frontOf(VICTIM).misbehave(null),
    cleanUp: async (lab) => await withoutFront(lab, VICTIM),
  },
  {
    name: 'packet-loss',
    about: '5 % of all packets of a worker are lost, each way, for a while',
    expected: 'TCP sends them again, and hedges cover the wait',
    lasting: true,
    lost: [],
    strike: async (lab) => lose(lab.network, lab.host(VICTIM), 5),
    felt: (lab) => dropped(lab, VICTIM),
    heal: cleared,
  },
  {
    name: 'slow-link',
    about: 'the link of a worker carries 10 Mbit/s each way, for a while',
    expected: 'rows go to the replicas as far as they are faster',
    lasting: true,
    lost: [],
    strike: async (lab) => limitRate(lab.network, lab.host(VICTIM), 10),
    heal: cleared,
  },
];
