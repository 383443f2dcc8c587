import assert from 'node:assert/strict';
import { fstatSync, mkdtempSync, readdirSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { openCoreLeases, quotaCores } from './core-leases.ts';

/** Stands for the native class: tables are files of 64 bytes with a mark. */
class FakeTable {
  static readonly tableBytes = 64;
  static formats = 0;
  readonly inode: number;

  static format(fd: number): void {
    FakeTable.formats += 1;
    writeSync(fd, Buffer.alloc(FakeTable.tableBytes));
  }

  constructor(fd: number) {
    const { size, ino } = fstatSync(fd);
    if (size !== FakeTable.tableBytes) throw new RangeError('fd: is not a table');
    this.inode = ino;
  }
}

function scratch(): Disposable & { dir: string } {
  const dir = mkdtempSync(join(tmpdir(), 'leases-'));
  return { dir, [Symbol.dispose]: () => rmSync(dir, { recursive: true }) };
}

test('all who open the table of a folder get the same one, and it is made once', () => {
  using at = scratch();
  const warnings: object[] = [];
  const logger = { warn: (facts: object): void => void warnings.push(facts) };
  const open = (): FakeTable | null =>
    openCoreLeases({ mode: 'on', native: FakeTable, logger, dir: join(at.dir, 'x') });
  const [first, second] = [open(), open()];
  assert.equal(first?.inode, second?.inode);
  assert.equal(FakeTable.formats, 1);
  assert.deepEqual(readdirSync(join(at.dir, 'x')), ['cores-1']);
  assert.deepEqual(warnings, []);
});

test('a maker that loses the race takes the table of the winner', () => {
  using at = scratch();
  const logger = { warn: (): void => assert.fail('no warning is due') };
  class SlowTable extends FakeTable {
    static override format(fd: number): void {
      FakeTable.format(fd);
      openCoreLeases({ mode: 'on', native: FakeTable, logger, dir: at.dir });
    }
  }
  const late = openCoreLeases({ mode: 'on', native: SlowTable, logger, dir: at.dir });
  const other = openCoreLeases({ mode: 'on', native: FakeTable, logger, dir: at.dir });
  assert.equal(late?.inode, other?.inode);
  assert.deepEqual(readdirSync(at.dir), ['cores-1']);
});

test('without a usable table, or with leases off, there are none', () => {
  using at = scratch();
  const warnings: object[] = [];
  const logger = { warn: (facts: object): void => void warnings.push(facts) };
  assert.equal(openCoreLeases({ mode: 'off', native: FakeTable, logger, dir: at.dir }), null);
  assert.deepEqual([readdirSync(at.dir), warnings], [[], []]);
  writeFileSync(join(at.dir, 'cores-1'), 'something else');
  assert.equal(openCoreLeases({ mode: 'on', native: FakeTable, logger, dir: at.dir }), null);
  assert.deepEqual(warnings, [{ dir: at.dir, reason: 'fd: is not a table' }]);
});

test('a cgroup quota is rounded up to whole cores', () => {
  using at = scratch();
  const file = join(at.dir, 'cpu.max');
  assert.equal(quotaCores(file), 0);
  for (const [text, cores] of [
    ['max 100000\n', 0],
    ['150000 100000\n', 2],
    ['400000 100000\n', 4],
    ['nonsense', 0],
  ] as const) {
    writeFileSync(file, text);
    assert.equal(quotaCores(file), cores, text);
  }
});
