import type { Fault } from '../fault.ts';

/** Faults of worker processes. */
export const WORKER_FAULTS: Fault[] = [
  {
    name: 'worker-killed',
    about: 'SIGKILL to a worker in the middle of a layer; it does not come back',
    expected: 'its rows go to the replicas within the layer; the other workers load what it had',
    lastsMs: 0,
    lost: ['expert-1'],
    strike: async (lab) => await lab.get('expert-1').kill(),
  },
  {
    name: 'worker-stopped',
    about: 'SIGSTOP to a worker for 12 seconds: its connections stay open, and nothing is answered',
    expected: 'its rows go to the replicas after the deadline of a call; it counts again when it goes on',
    lastsMs: 12_000,
    lost: [],
    strike: async (lab) => lab.get('expert-2').signal('SIGSTOP'),
    heal: async (lab) => lab.get('expert-2').signal('SIGCONT'),
  },
  {
    name: 'workers-restarted',
    about: 'SIGKILL to all workers at once; all are started again at once',
    expected: 'streams wait for the experts to be loaded again and go on',
    lastsMs: 0,
    lost: [],
    strike: async (lab) => {
      const workers = lab.all('expert-');
      await Promise.all(workers.map((worker) => worker.kill()));
      for (const worker of workers) worker.start();
    },
  },
];
