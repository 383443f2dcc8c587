import { clearImpairments, droppedAt, isolate } from '../../net/impairments.ts';
import type { Fault } from '../fault.ts';

const EXPECTED = 'streams run on with the placement that is known; nothing changes until Redis is back';

/** Faults of Redis. */
export const REDIS_FAULTS: Fault[] = [
  {
    name: 'redis-killed',
    about: 'SIGKILL to Redis; it is started again, empty, after a while',
    expected: EXPECTED,
    lasting: true,
    lost: [],
    strike: async (lab) => await lab.get('redis').kill(),
    heal: async (lab) => lab.get('redis').start(),
  },
  {
    name: 'redis-wiped',
    about: 'FLUSHALL: members, placement, leader and load reports are gone at once',
    expected: 'all of it comes back by itself, and nothing is dropped meanwhile',
    lost: [],
    strike: async (lab) => await lab.probe.wipe(),
  },
  {
    name: 'redis-paused',
    about: 'SIGSTOP to Redis for a while: connections stay open, and nothing is answered',
    expected: EXPECTED,
    lasting: true,
    lost: [],
    strike: async (lab) => lab.get('redis').signal('SIGSTOP'),
    heal: async (lab) => lab.get('redis').signal('SIGCONT'),
  },
  {
    name: 'redis-partitioned',
    about: 'nobody reaches Redis for a while, and a worker is killed meanwhile; it does not come back',
    expected: 'its rows go to the replicas without Redis; what it had is loaded elsewhere once Redis is back',
    lasting: true,
    lost: ['expert-1'],
    strike: async (lab) => {
      isolate(lab.network, lab.host('redis'));
      await lab.get('expert-1').kill();
    },
    felt: (lab) => droppedAt(lab.network, lab.host('redis')) > 0,
    heal: async (lab) => clearImpairments(lab.network, lab.host('redis')),
  },
];
