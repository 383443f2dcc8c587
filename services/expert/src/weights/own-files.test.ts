import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, constants, cpSync, mkdtempSync, openSync, renameSync, rmSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { FakeClock, type GuildhallError } from '@guildhall/common';
import { eventually } from '@guildhall/common/testing';
import { Checkpoint, ExpertBytes } from '@guildhall/model/weights';
import { MODEL, SIZES } from '../testing/worker-bench.ts';
import { OwnFiles } from './own-files.ts';

let dir: string;
let clock: FakeClock;
let checkpoint: Checkpoint;
let files: OwnFiles;
let problems: (string | null)[];

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'guildhall-own-'));
  cpSync(MODEL, dir, { recursive: true });
  clock = new FakeClock();
  checkpoint = Checkpoint.open(dir);
  problems = [];
  files = new OwnFiles({
    checkpoint,
    clock,
    readLimitMs: 1000,
    onChange: (problem: GuildhallError | null) => problems.push(problem?.code ?? null),
  });
});

afterEach(() => {
  files.stop();
  rmSync(dir, { recursive: true, force: true });
});

/** Where the first tensor of an expert lies. */
function pathOf(layer: number): string {
  const name = checkpoint.expertNames.find((tensor) => tensor.includes(`layers.${layer}.`)) ?? '';
  return join(dir, checkpoint.info(name).file);
}

const countHere = (): number => (files.list() ?? []).reduce((sum, { experts }) => sum + experts.length, 0);

test('one file that is gone takes its experts with it, and brings them back', async () => {
  assert.equal(files.list(), null);
  assert.deepEqual(problems, [null]);
  const path = pathOf(0);
  renameSync(path, `${path}.away`);
  await files.check();
  assert.deepEqual([files.has(0, 0), files.lost, problems.at(-1)], [false, true, 'checkpoint_not_found']);
  assert.ok(countHere() < SIZES.layers * SIZES.experts);
  await assert.rejects(files.read(0, 0), { code: 'checkpoint_not_found' });
  renameSync(`${path}.away`, path);
  await files.check();
  assert.deepEqual([files.list(), files.lost, problems.at(-1)], [null, false, null]);
  assert.deepEqual(await files.read(0, 0), await ExpertBytes.read(checkpoint, 0, 0));
});

test('a read of a file that was cut short is an error, not the end of the process', async () => {
  truncateSync(pathOf(0), 4096);
  await assert.rejects(files.read(0, 0), { code: 'checkpoint_invalid' });
  assert.deepEqual([files.has(0, 0), problems.at(-1)], [false, 'checkpoint_invalid']);
});

test('files that look well and cannot be read are left alone for a while', async () => {
  const read = checkpoint.read.bind(checkpoint);
  let broken = true;
  checkpoint.read = (ranges) => (broken ? Promise.reject(new Error('EIO: i/o error')) : read(ranges));
  await assert.rejects(files.read(0, 0), /EIO/);
  assert.deepEqual([files.has(0, 0), problems.at(-1)], [false, 'checkpoint_invalid']);
  broken = false;
  await files.check();
  assert.equal(files.has(0, 0), false);
  await clock.advance(31_000);
  await files.check();
  assert.equal(files.has(0, 0), true);
});

test('a disk that hangs is given up, takes no more than one thread, and is found again', async () => {
  const path = pathOf(0);
  renameSync(path, `${path}.away`);
  // Opening it waits for a writer, as a disk does that does not answer.
  execFileSync('mkfifo', [path]);
  const reading = assert.rejects(files.read(0, 0), { code: 'checkpoint_invalid', message: /did not answer/ });
  await clock.advance(1000);
  await clock.advance(1000);
  await reading;
  assert.equal(files.has(0, 0), false);
  await assert.rejects(files.read(0, 1), /did not answer/);
  closeSync(openSync(path, constants.O_RDWR | constants.O_NONBLOCK));
  rmSync(path);
  renameSync(`${path}.away`, path);
  await eventually(async () => {
    await clock.advance(31_000);
    await files.check();
    return files.list() === null;
  }, 'the disk to be used again');
  assert.deepEqual(await files.read(0, 0), await ExpertBytes.read(checkpoint, 0, 0));
});
