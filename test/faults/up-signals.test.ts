import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { ROOT } from '../harness/service-process.ts';
import { until } from '../harness/wait.ts';

interface Recorded {
  name: string;
  pid: number;
  startTicks: string;
}

const scratch = mkdtempSync(join(tmpdir(), 'guildhall-up-'));
const started: ChildProcess[] = [];
after(() => {
  // Their stacks end with them.
  for (const child of started) child.kill('SIGKILL');
  rmSync(scratch, { recursive: true, force: true });
});

/** `npm run up` in a state folder of its own. */
class Up {
  readonly state: string;
  readonly child: ChildProcess;
  output = '';

  constructor(name: string, args: string[] = [], wrap: string[] = []) {
    this.state = join(scratch, name);
    const [program = 'npm', ...rest] = [...wrap, 'npm', 'run', 'up', '--', '--state-dir', this.state, ...args];
    this.child = spawn(program, rest, {
      cwd: ROOT,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, GUILDHALL_OFFLINE: '1' },
    });
    started.push(this.child);
    for (const stream of [this.child.stdout, this.child.stderr])
      stream?.on('data', (data: Buffer) => (this.output += data.toString()));
  }

  async ready(): Promise<string> {
    await until(
      `the stack of ${this.state} to answer\n`,
      () => {
        if (this.child.exitCode !== null) throw new Error(`it ended: ${this.output}`);
        return /speaks the OpenAI API/.test(this.output);
      },
      120_000,
    );
    return this.run().url;
  }

  run(): { url: string; up: Recorded; processes: Recorded[] } {
    return JSON.parse(readFileSync(join(this.state, 'run.json'), 'utf8')) as {
      url: string;
      up: Recorded;
      processes: Recorded[];
    };
  }

  async exit(): Promise<number | null> {
    await until(`npm to end: ${this.state}`, () => this.child.exitCode !== null || this.child.signalCode !== null);
    return this.child.exitCode;
  }
}

function alive({ pid, startTicks }: Recorded): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] !== 'Z' && fields[19] === startTicks;
  } catch {
    return false;
  }
}

async function allEnded(processes: Recorded[]): Promise<void> {
  await until(`every process to end: ${JSON.stringify(processes)}`, () => !processes.some(alive), 30_000);
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGKILL'] as const) {
  test(`${signal} to npm ends every process, Redis too`, async () => {
    const up = new Up(signal);
    await up.ready();
    const { processes, up: self } = up.run();
    assert.deepEqual(processes.map(({ name }) => name).sort(), [
      'controller',
      'expert-1',
      'expert-2',
      'gateway-1',
      'redis',
      'router-1',
    ]);
    assert.ok(processes.every(alive));
    up.child.kill(signal);
    await allEnded([...processes, self]);
  });
}

test('SIGKILL of `up` itself ends every child, and the next `up` starts', async () => {
  const up = new Up('kill-up');
  await up.ready();
  const { processes, up: self } = up.run();
  process.kill(self.pid, 'SIGKILL');
  await allEnded(processes);
  const next = new Up('kill-up', ['--smoke']);
  assert.equal(await next.exit(), 0, next.output);
});

test('a taken port: the default moves on, an asked-for one is an error that names it', async () => {
  const server = createServer();
  // Taken already is as good.
  await new Promise<void>((resolve) => server.once('error', () => resolve()).listen(8000, '127.0.0.1', resolve));
  try {
    const moved = new Up('busy', ['--smoke', '--json']);
    assert.equal(await moved.exit(), 0, moved.output);
    assert.match(moved.output, /"url":"http:\/\/127\.0\.0\.1:(?!8000)\d+"/);
    const asked = new Up('busy-asked', ['--smoke', '--listen', '127.0.0.1:8000']);
    assert.equal(await asked.exit(), 1);
    assert.match(asked.output, /127\.0\.0\.1:8000 is taken/);
  } finally {
    server.close();
  }
});

test('no network and no IPv6: it starts and answers on loopback alone', async () => {
  const setup = 'ip link set lo up; sysctl -qw net.ipv6.conf.all.disable_ipv6=1 || true; exec "$@"';
  const up = new Up('no-network', ['--smoke'], ['unshare', '--net', 'sh', '-c', setup, 'sh']);
  assert.equal(await up.exit(), 0, up.output);
  assert.match(up.output, /tokens\/s/);
});

test('a model folder that is none is an error with the path, and nothing is left running', async () => {
  const up = new Up('no-model', ['--smoke', '--model', join(scratch, 'nowhere')]);
  assert.equal(await up.exit(), 1);
  assert.match(up.output, /nowhere/);
});
