import { mkdirSync, readdirSync, readFileSync, rmSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '../../net/network.ts';
import type { Fault } from '../fault.ts';

/** Workers that lose their checkpoint. */
const DISKLESS = ['expert-2', 'expert-3'];

/** Faults of worker processes. */
export const WORKER_FAULTS: Fault[] = [
  {
    name: 'worker-killed',
    about: 'SIGKILL to a worker in the middle of a layer; it does not come back',
    expected: 'its rows go to the replicas within the layer; the other workers load what it had',
    lost: ['expert-1'],
    strike: async (lab) => await lab.get('expert-1').kill(),
  },
  {
    name: 'worker-stopped',
    about: 'SIGSTOP to a worker for a while: its connections stay open, and nothing is answered',
    expected: 'its rows go to the replicas after the deadline of a call; it counts again when it goes on',
    lasting: true,
    lost: [],
    strike: async (lab) => lab.get('expert-2').signal('SIGSTOP'),
    heal: async (lab) => lab.get('expert-2').signal('SIGCONT'),
  },
  {
    name: 'workers-restarted',
    about: 'SIGKILL to all workers at once; all are started again at once',
    expected: 'nobody holds the experts: streams wait until they are loaded again, and go on',
    lost: [],
    strike: async (lab) => {
      const workers = lab.all('expert-');
      await Promise.all(workers.map((worker) => worker.kill()));
      for (const worker of workers) worker.start();
    },
  },
  {
    name: 'workers-away',
    about:
      'SIGKILL to all workers at once; they are started again after a while; the router has --expert-fallback local',
    expected: 'the router computes the experts itself, from the checkpoint, until they are back',
    lasting: true,
    lost: [],
    prepare: async (lab) => {
      await lab.get('router-1').stop(lab.clock);
      lab.get('router-1').start({ args: ['--expert-fallback', 'local'] });
    },
    strike: async (lab) => void (await Promise.all(lab.all('expert-').map((worker) => worker.kill()))),
    heal: async (lab) => {
      for (const worker of lab.all('expert-')) worker.start();
    },
    cleanUp: async (lab) => await lab.get('router-1').stop(lab.clock),
  },
  {
    name: 'out-of-memory',
    about: 'SIGKILL to a worker while another one can get no more memory, so that it cannot load what was lost',
    expected: 'the worker refuses what it cannot load, or dies of it; the others load it',
    lost: ['expert-1'],
    strike: async (lab) => {
      limitMemory(lab.get('expert-2').pid);
      await lab.get('expert-1').kill();
    },
    // The limit ends with the process.
    cleanUp: async (lab) => await lab.get('expert-2').kill(),
  },
  {
    name: 'checkpoint-gone',
    about: 'SIGKILL to a worker after the checkpoint of two others went away, the files of one of them cut short first',
    expected: 'what they have stays in use; what they cannot read they get from a worker that has it',
    lost: ['expert-1'],
    prepare: async (lab) => {
      for (const name of DISKLESS) {
        await lab.get(name).stop(lab.clock);
        lab.copyCheckpoint(name);
        lab.get(name).start();
      }
    },
    strike: async (lab) => {
      truncateFiles(lab.checkpointOf('expert-2'));
      for (const name of DISKLESS) rmSync(lab.checkpointOf(name), { recursive: true });
      await lab.get('expert-1').kill();
    },
    cleanUp: async (lab) => {
      for (const name of DISKLESS) {
        await lab.get(name).kill();
        lab.linkCheckpoint(name);
      }
    },
  },
  {
    name: 'checkpoint-lost',
    about: 'SIGKILL to a worker whose checkpoint is gone; it starts again with an empty folder',
    expected: 'it fetches what it needs from the other workers',
    lost: [],
    strike: async (lab) => {
      const worker = lab.get('expert-2');
      await worker.kill();
      emptyFolder(lab.checkpointOf(worker.name));
      worker.start({ args: ['--model-from-peers'] });
    },
    cleanUp: async (lab) => {
      await lab.get('expert-2').kill();
      lab.linkCheckpoint('expert-2');
    },
  },
];

const PAGE_BYTES = 4096;

/** No more address space than the process has now. */
function limitMemory(pid: number): void {
  const pages = Number(readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ')[0]);
  run('prlimit', ['--pid', String(pid), `--as=${pages * PAGE_BYTES}`]);
}

function emptyFolder(dir: string): void {
  rmSync(dir, { recursive: true });
  mkdirSync(dir);
}

/** Cuts files short under whoever reads them. */
function truncateFiles(dir: string): void {
  for (const file of readdirSync(dir)) {
    if (file.endsWith('.safetensors')) truncateSync(join(dir, file));
  }
}
