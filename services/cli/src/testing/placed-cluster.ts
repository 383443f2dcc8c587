import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Cluster, loadConfig, type MemberLease, newIncarnation, systemClock } from '@guildhall/common';
import { eventually, RedisServer, silentLogger } from '@guildhall/common/testing';
import { type ControllerApp, controllerSchema, startController } from '@guildhall/controller';
import { control } from '@guildhall/proto';
import { ROOT, StateDir } from '../stack/state-dir.ts';

const LAYERS = 2;
const EXPERTS = 8;
const MODEL = { modelFingerprint: 'model', numericsId: 'class' };

/** What a command came to. */
export interface Run {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** A worker or router of which only the entry in Redis exists; it obeys every placement at once, or when told to. */
export interface TestMember {
  readonly lease: MemberLease;
  /** Acknowledges up to this epoch. */
  ackUpTo: number;
  experts(): number;
}

/** Real Redis and a real controller, with members that the test decides; commands run as a user would run them. */
export class PlacedCluster {
  readonly redis: RedisServer;
  readonly cluster: Cluster;
  readonly state = new StateDir(mkdtempSync(join(tmpdir(), 'guildhall-placed-')));
  controller: ControllerApp | null = null;

  private constructor(redis: RedisServer) {
    this.redis = redis;
    this.cluster = new Cluster({ redis: redis.url, cluster: 'test', clock: systemClock, logger: silentLogger() });
  }

  static async start(minWorkers: number): Promise<PlacedCluster> {
    const placed = new PlacedCluster(await RedisServer.start());
    await placed.cluster.start();
    placed.state.ensure();
    placed.state.writeSecrets({ clusterToken: 'token', redisUrl: placed.redis.url, cluster: 'test' });
    await placed.startController(minWorkers);
    return placed;
  }

  async startController(minWorkers = 1): Promise<void> {
    const argv = ['--redis', this.redis.url, '--cluster', 'test', '--id', 'controller-1', '--settle-ms', '100'];
    const config = loadConfig(controllerSchema, { argv: [...argv, '--min-workers', String(minWorkers)], env: {} });
    this.controller = await startController(config, {
      logger: silentLogger(),
      clock: systemClock,
      onFatal: (err) => {
        throw err;
      },
    });
  }

  /** A worker with room for so many experts. */
  async worker(id: string, slots = 100): Promise<TestMember> {
    let held: control.LayerHoldings[] = [];
    const fields = (): Partial<control.Member> => ({
      kind: control.MemberKind.MEMBER_KIND_EXPERT,
      weightCapacityBytes: BigInt(slots * 10),
      expertBytes: 10n,
      numLayers: LAYERS,
      numExperts: EXPERTS,
      holdings: held,
      address: '127.0.0.1:1',
    });
    const obey = (placement: control.Placement): void => {
      held = [...held.filter(({ layer }) => layer >= LAYERS), ...givenTo(id, placement)];
    };
    return this.#member('expert', id, fields, obey, () => held.reduce((sum, { experts }) => sum + experts.length, 0));
  }

  async router(id: string): Promise<TestMember> {
    const fields = (): Partial<control.Member> => ({ kind: control.MemberKind.MEMBER_KIND_ROUTER });
    return this.#member(
      'router',
      id,
      fields,
      () => undefined,
      () => 0,
    );
  }

  async #member(
    kind: string,
    id: string,
    fields: () => Partial<control.Member>,
    obey: (placement: control.Placement) => void,
    experts: () => number,
  ): Promise<TestMember> {
    const state = { acked: 0 };
    const incarnation = newIncarnation();
    const value = (): Uint8Array => {
      const ackedEpoch = BigInt(state.acked);
      const known = { id, incarnation, ready: true, ackedEpoch, ...MODEL };
      return control.Member.encode(control.Member.fromPartial({ ...known, ...fields() })).finish();
    };
    const lease = this.cluster.lease({ kind, id, incarnation, value, onLost: () => undefined });
    const member: TestMember = { lease, ackUpTo: Number.POSITIVE_INFINITY, experts };
    const take = (): void => {
      const current = this.cluster.placements.current();
      if (current === null || current.epoch <= state.acked || current.epoch > member.ackUpTo) return;
      obey(control.Placement.decode(current.bytes));
      state.acked = current.epoch;
      lease.touch();
    };
    const timer = systemClock.setInterval(50, take);
    this.#timers.push(timer);
    await lease.join();
    return member;
  }

  readonly #timers: { cancel(): void }[] = [];

  /** Resolves when this holds. */
  until(what: string, check: () => boolean): Promise<true> {
    return eventually(() => check(), what);
  }

  /** Runs a command; `end` resolves with what it came to. */
  run(...args: string[]): {
    kill(signal: NodeJS.Signals): void;
    stdout(): string;
    stderr(): string;
    end: Promise<Run>;
  } {
    const main = join(ROOT, 'services', 'cli', 'src', 'main.ts');
    const child = spawn(process.execPath, [main, ...args, '--state-dir', this.state.path], {
      env: { ...process.env, NODE_NO_WARNINGS: '1' },
    });
    const run: Run = { code: null, stdout: '', stderr: '' };
    child.stdout.on('data', (data: Buffer) => (run.stdout += data.toString()));
    child.stderr.on('data', (data: Buffer) => (run.stderr += data.toString()));
    const end = new Promise<Run>((resolve) => child.once('close', (code) => resolve({ ...run, code })));
    return { kill: (signal) => void child.kill(signal), stdout: () => run.stdout, stderr: () => run.stderr, end };
  }

  async stop(): Promise<void> {
    for (const timer of this.#timers) timer.cancel();
    await this.controller?.stop();
    await this.cluster.close();
    await this.redis.stop();
    rmSync(this.state.path, { recursive: true });
  }
}

function givenTo(id: string, { workers, layers }: control.Placement): control.LayerHoldings[] {
  const own = workers.indexOf(id);
  return layers.map(({ layer, counts, workers: holders }) => {
    let at = 0;
    const given = counts.map((count) => holders.slice(at, (at += count)).includes(own));
    return { layer, experts: given.flatMap((mine, expert) => (mine ? [expert] : [])) };
  });
}
