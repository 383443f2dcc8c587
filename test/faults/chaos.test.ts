import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { ROOT } from '../harness/service-process.ts';
import { until } from '../harness/wait.ts';

/** What a change must not break; `guildhall chaos` runs all of them. */
const FAULTS = [
  'worker-killed',
  'worker-stopped',
  'workers-restarted',
  'out-of-memory',
  'partition-to-router',
  'packet-loss',
  'garbage',
  'wrong-shapes',
  'late-replies',
  'redis-killed',
  'redis-wiped',
  'redis-partitioned',
  'controller-killed',
  'two-controllers',
  'router-killed',
];

interface Row {
  fault: string;
  streams: number;
  streamsDropped: number;
  wrongTokens: number;
  longestPauseMs: number;
  recoveryMs: number | null;
  note: string | null;
}

interface Run {
  status: number;
  out: string;
  err: string;
}

const MARK = randomUUID();
const dir = mkdtempSync(join(tmpdir(), 'guildhall-chaos-'));
let refusal: string | null = null;
let rows: Row[] = [];

function chaos(args: readonly string[]): ChildProcess {
  const main = join(ROOT, 'services', 'cli', 'src', 'main.ts');
  const env = { ...process.env, NODE_NO_WARNINGS: '1', CHAOS_MARK: MARK };
  return spawn(process.execPath, [main, 'chaos', ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] });
}

async function finished(child: ChildProcess): Promise<Run> {
  let out = '';
  let err = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => (out += text));
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (err += text));
  await once(child, 'close');
  return { status: child.exitCode ?? -1, out, err };
}

/** Processes of commands that this file started. */
function leftovers(): string[] {
  return readdirSync('/proc').filter((pid) => {
    if (!/^\d+$/.test(pid)) return false;
    try {
      return readFileSync(`/proc/${pid}/environ`, 'latin1').includes(`CHAOS_MARK=${MARK}`);
    } catch {
      return false;
    }
  });
}

before(async () => {
  const only = FAULTS.flatMap((name) => ['--fault', name]);
  const { status, out, err } = await finished(chaos(['--json', '--streams', '3', '--seconds', '5', ...only]));
  const failure = /^\{"error":\{"code":"unsupported","message":(".*")\}\}$/m.exec(err);
  if (failure !== null) refusal = JSON.parse(failure[1] ?? '""') as string;
  else {
    assert.ok(out.startsWith('{'), `no report (${status}): ${err}`);
    const report = JSON.parse(out) as { schema: number; suite: string; rows: Row[] };
    assert.deepEqual([report.schema, report.suite], [1, 'chaos']);
    rows = report.rows;
    const clean = rows.every((row) => row.streamsDropped === 0 && row.wrongTokens === 0 && row.recoveryMs !== null);
    assert.equal(status, clean ? 0 : 1);
  }
});
after(() => rmSync(dir, { recursive: true, force: true }));

for (const fault of FAULTS) {
  test(`${fault}: no stream is dropped, no token is wrong, and every expert gets its replicas back`, (t) => {
    if (refusal !== null) return t.skip(refusal);
    const row = rows.find((one) => one.fault === fault);
    assert.ok(row !== undefined, 'it has a row');
    const { streams, streamsDropped, wrongTokens, recoveryMs, note } = row;
    assert.ok(streams >= 3, `streams ran through it: ${note}`);
    assert.deepEqual({ streamsDropped, wrongTokens }, { streamsDropped: 0, wrongTokens: 0 }, note ?? '');
    assert.ok(recoveryMs !== null, note ?? '');
  });
}

test('nothing is left of a run that is killed', async (t) => {
  if (refusal !== null) return t.skip(refusal);
  assert.deepEqual(leftovers(), [], 'nor of one that ended by itself');
  const child = chaos(['--fault', 'worker-killed', '--logs', dir]);
  const ended = finished(child);
  await until('the lab to have a router', () => readdirSync(dir).some((file) => file.startsWith('router-')));
  assert.ok(leftovers().length > 5, 'the lab has processes');
  child.kill('SIGKILL');
  await ended;
  await until('all of them to be gone', () => leftovers().length === 0);
});

test('the interrupt of a terminal ends a run, and nothing is left', async (t) => {
  if (refusal !== null) return t.skip(refusal);
  rmSync(join(dir, 'router-1.log'), { force: true });
  const child = chaos(['--fault', 'worker-killed', '--logs', dir]);
  const ended = finished(child);
  await until('the lab to have a router', () => readdirSync(dir).some((file) => file.startsWith('router-')));
  child.kill('SIGINT');
  assert.notEqual((await ended).status, 0);
  await until('all of them to be gone', () => leftovers().length === 0);
});
