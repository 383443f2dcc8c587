import { resolve } from 'node:path';
import { Command, Option } from 'commander';
import { type Clock, fail, systemClock } from '@guildhall/common';
import type { JoinedDir } from '../cluster/joined-dir.ts';
import { JoinedWorker } from '../cluster/joined-worker.ts';
import { advertiseAddress, enterCluster, type JoinWish } from '../cluster/membership.ts';
import { Renewals } from '../cluster/renewals.ts';
import { type Installed, installUnit, requireRoot, systemEnv, workerUnit } from '../cluster/systemd.ts';
import { stopRequest } from '../stack/stop-request.ts';
import { positiveInteger } from '../ui/arguments.ts';
import { parseBytes } from '../ui/bytes.ts';
import { Progress } from '../ui/progress.ts';

interface JoinFlags {
  token: string | null;
  id: string | null;
  memory: string | null;
  threads: number | null;
  advertise: string | null;
  port: number | null;
  failureDomain: string | null;
  model: string | null;
  install: boolean;
  installRoot: string;
  json: boolean;
}

const READY_EVERY_MS = 500;

/** `guildhall join`: this machine as a worker of a cluster, and on until Ctrl-C. */
export function joinCommand(): Command {
  return new Command('join')
    .description('make this machine a worker of a cluster; the experts come from machines that have them')
    .argument('[url]', 'https://HOST:PORT of the head; not needed where it has joined before')
    .addOption(
      new Option('--token <token>', 'what guildhall cluster token create printed on the head').env(
        'GUILDHALL_JOIN_TOKEN',
      ),
    )
    .option('--id <name>', 'name of the worker (default: the next free one, such as expert-3)')
    .option('--memory <size>', 'memory for experts, such as 8GiB (default: 60 % of what there is)')
    .option('--threads <n>', 'threads that compute (default: one per core)', positiveInteger)
    .option('--advertise <address>', 'address for the others (default: the one on the way to the head)')
    .option('--port <port>', 'port of the worker (default: 7600 or the next free one)', positiveInteger)
    .option('--failure-domain <name>', 'rack or zone, so that copies of an expert are apart')
    .option('--model <dir>', 'take the experts from this checkpoint instead of from other machines')
    .option('--install', 'write a systemd unit, enable and start it instead of running here', false)
    .addOption(new Option('--install-root <dir>', 'write the unit and the state below DIR').default('/').hideHelp())
    .option('--json', 'print one JSON object when it has joined', false)
    .action(async (url: string | undefined, flags: JoinFlags) => {
      if (flags.install) requireRoot(flags.installRoot);
      const env = flags.install ? systemEnv(process.env, flags.installRoot) : process.env;
      const progress = new Progress({ quiet: flags.json });
      const { dir, lock, isNew, headAway } = await enterCluster(wishOf(url ?? null, flags), env, systemClock);
      try {
        const { cluster } = dir.membership();
        if (isNew) progress.done(`${dir.config().id} joined ${cluster.name}; its key stays in ${dir.path}`);
        if (headAway !== null) progress.done(`going on with what the head said last: ${headAway}`);
        if (!flags.install) return await runWorker(dir, flags.json, progress, systemClock);
      } finally {
        lock.release();
      }
      printInstalled(dir, installUnit(workerUnit(dir.config().id), flags.installRoot), flags.json);
    });
}

function wishOf(url: string | null, flags: JoinFlags): JoinWish {
  const memory = flags.memory ? parseBytes(flags.memory) / 2 ** 20 : null;
  if (memory !== null && memory < 1) throw fail('config_invalid', '--memory: at least 1MiB', { field: 'memory' });
  return {
    url,
    token: flags.token ?? null,
    id: flags.id ?? null,
    memoryMib: memory === null ? null : Math.floor(memory),
    threads: flags.threads ?? null,
    advertise: flags.advertise ? advertiseAddress(flags.advertise) : null,
    port: flags.port ?? null,
    failureDomain: flags.failureDomain ?? null,
    model: flags.model ? resolve(flags.model) : null,
  };
}

function describe(dir: JoinedDir): { id: string; cluster: string; address: string; dir: string } {
  const { id, advertise, port } = dir.config();
  return { id, cluster: dir.membership().cluster.name, address: `${advertise}:${port}`, dir: dir.path };
}

function printInstalled(dir: JoinedDir, installed: Installed, json: boolean): void {
  const lines = [...installed.files.map((file) => `wrote ${file}`), ...installed.notes];
  process.stdout.write(json ? `${JSON.stringify({ ...describe(dir), ...installed })}\n` : `${lines.join('\n')}\n`);
}

async function runWorker(dir: JoinedDir, json: boolean, progress: Progress, clock: Clock): Promise<void> {
  const stop = stopRequest(clock);
  const event = (message: string): void => progress.done(message);
  const worker = new JoinedWorker(dir, clock, {
    event,
    progress: ({ what, done, total }) => progress.update(`${what}, ${done} of ${total}`, done / total),
  });
  // A worker reads its certificate when it starts, so a new one means a restart, for which it drains.
  const renewals = new Renewals(dir, clock, { event, onRenewed: () => worker.restart() });
  try {
    worker.start();
    if (json) process.stdout.write(`${JSON.stringify(describe(dir))}\n`);
    const ready = untilReady(dir, worker, progress, clock, () => stop.isRequested());
    await stop.requested;
    await ready;
  } finally {
    progress.done('draining and leaving');
    await worker.stop();
    await renewals.stop();
    stop.dispose();
  }
}

/** Shows what the worker waits for, and how far it is, until it serves. */
async function untilReady(
  dir: JoinedDir,
  worker: JoinedWorker,
  progress: Progress,
  clock: Clock,
  stopped: () => boolean,
): Promise<void> {
  while (!stopped()) {
    const admin = await Promise.race([worker.admin(), clock.sleep(READY_EVERY_MS).then(() => null)]);
    const state = admin === null ? null : await readState(admin);
    if (state === null) progress.update('asking the other machines for the model');
    else if (state.wanted === 0) progress.update(`waiting: ${state.reason ?? 'no experts are placed here yet'}`);
    else progress.update(`experts here: ${state.held} of ${state.wanted}`, state.held / state.wanted);
    if (state?.ready === true && state.wanted > 0 && state.held >= state.wanted) {
      const { id, cluster, address } = describe(dir);
      progress.done(`${id} serves ${state.held} experts of ${cluster} at ${address}; Ctrl-C drains it and leaves`);
      return;
    }
    await clock.sleep(READY_EVERY_MS);
  }
}

interface WorkerState {
  ready: boolean;
  reason: string | null;
  held: number;
  wanted: number;
}

async function readState(admin: string): Promise<WorkerState | null> {
  try {
    return (await (await fetch(`http://${admin}/ready`, { signal: AbortSignal.timeout(5000) })).json()) as WorkerState;
  } catch {
    // It ends or starts just now.
    return null;
  }
}
