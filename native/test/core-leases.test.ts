/** Core leases between real processes. */

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import type { CoreLeases } from '../ts/index.ts';
import { Random, batchOf, headSpec, headWeights, makeStep, native, sizes } from './support.ts';

const CHILD = fileURLToPath(new URL('lease-child.ts', import.meta.url));

interface Table extends Disposable {
  dir: string;
  file: string;
  leases: CoreLeases;
}

function makeTable(): Table {
  const dir = mkdtempSync(join(tmpdir(), 'leases-'));
  const file = join(dir, 'cores');
  const fd = openSync(file, 'wx+');
  ftruncateSync(fd, native.CoreLeases.tableBytes);
  native.CoreLeases.format(fd);
  const leases = new native.CoreLeases(fd, 0);
  closeSync(fd);
  return { dir, file, leases, [Symbol.dispose]: () => rmSync(dir, { recursive: true }) };
}

function startChild(...args: string[]): ChildProcess {
  return spawn(process.execPath, [CHILD, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
}

async function firstLine(child: ChildProcess): Promise<string> {
  const [bytes] = (await once(child.stdout as NodeJS.EventEmitter, 'data')) as [Buffer];
  return bytes.toString().trim();
}

test('the cores of a process that was killed are free again', async () => {
  using table = makeTable();
  const child = startChild('hold', table.file);
  assert.equal(await firstLine(child), 'held');
  assert.ok(table.leases.holders().every((pid) => pid === child.pid));
  assert.equal(table.leases.tryTake(), -1);
  child.kill('SIGKILL');
  await once(child, 'exit');
  assert.ok(table.leases.holders().every((pid) => pid === 0));
  const core = table.leases.tryTake();
  assert.ok(table.leases.cores().includes(core));
  table.leases.give(core);
});

test('processes that contend never hold one core twice, and all get their turns', async () => {
  using table = makeTable();
  const children = Array.from({ length: 4 }, () => startChild('contend', table.file, table.dir, '500'));
  const exits = await Promise.all(children.map(async (child) => (await once(child, 'exit')) as [number]));
  assert.deepEqual(
    exits.flatMap(([code]) => code),
    [0, 0, 0, 0],
  );
  assert.ok(table.leases.holders().every((pid) => pid === 0));
});

test('a runtime computes with leases, and without any that it could get', async () => {
  using table = makeTable();
  const runtime = new native.Runtime({ threads: 3, isa: 'auto', bf16Kernels: 'auto', coreLeases: table.leases });
  const random = new Random(5);
  const step = makeStep(runtime);
  const head = new native.LmHead(runtime, headSpec('f32'), headWeights(random));
  step.setBatch(batchOf([{ tokens: [1, 2, 3] }]));
  step.setHidden(random.floats(step.numTokens * sizes.hidden));
  const logits = async (): Promise<Float32Array> => {
    await head.forward(step, Int32Array.of(0), 'decode');
    return step.logits.slice(0, sizes.vocab);
  };
  const expected = await logits();
  assert.ok(table.leases.holders().every((pid) => pid === 0));
  const child = startChild('hold', table.file);
  assert.equal(await firstLine(child), 'held');
  assert.deepEqual(await logits(), expected);
  child.kill('SIGKILL');
  await once(child, 'exit');
});

test('leases check their arguments', () => {
  using table = makeTable();
  const { leases } = table;
  assert.throws(() => leases.give(0), { code: 'NATIVE_INVALID_ARGUMENT', message: /^core: 0 was not taken here/ });
  assert.throws(() => new native.CoreLeases(-1, 0), { code: 'NATIVE_INVALID_ARGUMENT', message: /^fd: / });
  const fd = openSync(CHILD, 'r');
  assert.throws(() => new native.CoreLeases(fd, 0), { code: 'NATIVE_INVALID_ARGUMENT', message: /^fd: / });
  closeSync(fd);
});
