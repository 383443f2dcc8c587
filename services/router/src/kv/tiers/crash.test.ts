import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { filesBelow, openStore, sameBlob, temporaryFolder, testBlob } from '../../testing/store-rig.ts';

const WRITER = join(import.meta.dirname, '../../testing/store-writer.ts');

/** Lets a process write from blob `first` on and kills it at some moment; the blobs that it said to have written. */
async function killedWriter(folder: string, first: number): Promise<number[]> {
  const child = spawn(process.execPath, [WRITER, folder, String(first)], { stdio: ['ignore', 'pipe', 'inherit'] });
  const exited = once(child, 'exit');
  const written: number[] = [];
  const enough = 3 + Math.floor(Math.random() * 20);
  for await (const line of createInterface(child.stdout)) {
    written.push(Number(line));
    // Not always right behind a write.
    if (written.length === enough) void sleep(Math.random() * 5).then(() => child.kill('SIGKILL'));
  }
  const [code, signal] = (await exited) as [number | null, string | null];
  assert.deepEqual({ code, signal }, { code: null, signal: 'SIGKILL' });
  return written;
}

test('a process that is killed while it writes leaves nothing wrong behind, and most of what it wrote', async () => {
  const { path: folder, remove } = temporaryFolder();
  try {
    let last = 0;
    for (let round = 0; round < 5; round++) {
      const written = await killedWriter(folder, last);
      const { store, events } = await openStore(folder, { hostBytes: 0, diskBytes: 4 << 20 });
      assert.deepEqual(events.faults, []);
      assert.ok(
        filesBelow(folder).every((path) => path.endsWith('.page')),
        'no temporary file, nothing held',
      );
      let found = 0;
      for (const i of written) {
        const expected = testBlob(`${i}`, 1000 + ((i * 7919) % 60_000), 1000);
        const blob = await store.get('page', expected.name);
        if (blob === null) continue;
        assert.ok(sameBlob(blob, expected));
        found += 1;
      }
      // One in three is deleted again.
      assert.ok(found >= written.length / 2, `${found} of ${written.length}`);
      assert.equal(await store.held('sequence'), null);
      last = (written.at(-1) ?? last) + 10;
      await store.close();
    }
  } finally {
    remove();
  }
});
